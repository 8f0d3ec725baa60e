# make demo   the whole chain on the known-answer source: results, tables, fig/xe_vs_K.png in $(STORAGE)
# make test   the tests, without those marked slow or browser
# make ci     what the continuous integration runs

PYTHON  ?= python3
STORAGE ?= outputs
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN)

BIN   := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow lint format ci clean

demo: $(READY)
	$(BIN)/python -m helpers grid --preset demo --workers $(WORKERS) --storage $(STORAGE)
	$(BIN)/python -m helpers analyse --storage $(STORAGE)

test: $(READY)
	$(BIN)/python -m pytest -m "not slow and not browser"

# pytest ends with 5 when nothing is marked so.
test-slow: $(READY)
	$(BIN)/python -m pytest -m "slow or browser" || test $$? -eq 5

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --keep-id --verify $(wildcard *.ipynb studies/*.ipynb)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout --keep-id $(wildcard *.ipynb studies/*.ipynb)

ci: lint test test-slow

clean:
	rm -rf .venv .pytest_cache .ruff_cache

$(READY): requirements.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --constraint constraints.txt \
		hypothesis nbstripout pytest ruff
	touch $@
