# Two commands do everything on a fresh machine: `make suites` and `make test`.
PYTHON ?= python3
VENV ?= .venv
K ?= 8
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: suites test check format bench agreement conformance museum losslessness proof unchanged costs models clean

suites: $(READY)  ## the main job: gate the embedded pair against the stored baselines
	$(BIN)/pytest --specdec-k=$(K) suites/

test: $(READY)  ## the plugin's own tests
	$(BIN)/pytest tests/

check: $(READY)  ## lint, types, order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## our claims, measured
	$(BIN)/pytest benchmarks/

agreement: $(READY)  ## replay beside decode, cell by cell, into docs/agreement.md
	$(BIN)/python tests/agreement.py > docs/agreement.md.new && mv docs/agreement.md.new docs/agreement.md

conformance: $(READY)  ## losslessness from text: false alarms and power, into docs/conformance.md (about 6 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/conformance.py > docs/conformance.md.new && mv docs/conformance.md.new docs/conformance.md

museum: $(READY)  ## real engines' acceptance bugs and what the gate says of them, into docs/museum.md
	$(BIN)/python tests/museum/table.py > docs/museum.md.new && mv docs/museum.md.new docs/museum.md

losslessness: $(READY)  ## wrong and right samplers under assert_lossless, into docs/museum-losslessness.md (about 20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python tests/museum/losslessness.py > docs/museum-losslessness.md.new \
		&& mv docs/museum-losslessness.md.new docs/museum-losslessness.md

PROOF := OMP_NUM_THREADS=1 $(BIN)/python benchmarks/gate_proof.py
proof: $(READY)  ## the gate's false alarms and power by simulation, into docs/proof.md (about an hour)
	mkdir -p benchmarks/results
	for mode in counted replayed nightly; do $(PROOF) level $$mode > benchmarks/results/gate-level-$$mode.json || exit 1; done
	for what in power evidence; do $(PROOF) $$what > benchmarks/results/gate-$$what.json || exit 1; done
	$(BIN)/python benchmarks/gate_page.py benchmarks/results/gate-*.json > docs/proof.md

costs: $(READY)  ## time the embedded pair again, on a quiet machine; then `pytest suites/text --specdec-update=changed`
	$(BIN)/python -m pytest_specdec costs --target suites/models/text-target --draft suites/models/text-draft \
		--depth 0,1,2,3 --repeats 80 -o suites/text/costs.json

models: $(READY)  ## train the embedded pair again
	$(BIN)/python suites/models/build.py

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .benchmarks

RUNS ?= 50
unchanged: $(READY)  ## the main job RUNS times over: any failure is a false alarm
	for run in $$(seq $(RUNS)); do $(BIN)/pytest -q --specdec-k=$(K) suites/ > /dev/null || { echo "run $$run failed"; exit 1; }; done
	@echo "$(RUNS) unchanged runs, no failure"
