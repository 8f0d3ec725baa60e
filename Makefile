# make demo   the whole chain on the known-answer source: results, tables, figures, report.html in $(STORAGE)
# make test   the tests, without those marked slow or browser
# make test-browser   the notebooks in Chromium; what it showed is kept in build/screenshots
# make ci     what the continuous integration runs

PYTHON  ?= python3
STORAGE ?= outputs
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN)

BIN   := .venv/bin
READY := .venv/.ready
LAB   := .venv/.lab
ENGINES := .venv/.engines
STORE := .venv/.store
COLAB := .venv-colab/.ready

# Each process of a grid or a test would compile the tree anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-browser screenshot lint format ci clean

demo: $(READY)
	$(BIN)/python -m helpers grid --preset demo --workers $(WORKERS) --storage $(STORAGE)

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not browser"

# pytest ends with 5 when nothing is marked so.
test-slow: $(ENGINES) $(STORE)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "slow and not browser" || test $$? -eq 5

test-browser: $(LAB) $(COLAB)
	$(BIN)/python -m pytest -m browser

# fig/notebook.png, the picture in the README
screenshot: $(LAB)
	$(BIN)/python -m tests.browser.screenshot

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --keep-id --verify $(wildcard *.ipynb studies/*.ipynb)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout --keep-id $(wildcard *.ipynb studies/*.ipynb)

ci: lint test test-slow test-browser

clean:
	rm -rf .venv .venv-colab build .pytest_cache .ruff_cache

$(READY): requirements.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --constraint constraints.txt \
		hypothesis nbstripout pytest pytest-xdist ruff
	touch $@

# Ray and submitit, which only --engine ray and --engine slurm need
$(ENGINES): $(READY)
	$(BIN)/python -m pip install --quiet ray submitit --constraint constraints.txt
	touch $@

$(LAB): tests/browser/lab.txt $(READY)
	$(BIN)/python -m pip install --quiet --requirement $< --constraint constraints.txt
	touch $@

# An object store to test on: s3fs, and a server
$(STORE): constraints.txt $(READY)
	$(BIN)/python -m pip install --quiet "moto[server]" s3fs --constraint constraints.txt
	touch $@

# Sees the packages of .venv behind its own: nothing large is installed twice, and its pins win.
$(COLAB): tests/browser/colab.txt $(LAB)
	$(BIN)/python -m venv --clear --without-pip .venv-colab
	cd .venv-colab/lib/python*/site-packages && ls -d $(CURDIR)/.venv/lib/python*/site-packages > project.pth
	.venv-colab/bin/python -m pip install --quiet --requirement $<
	touch $@
