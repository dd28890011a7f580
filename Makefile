# Every target sets up what it needs: a virtual environment with pinned versions, nothing else.
PRESET ?= laptop
SEED ?= 0
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# without compiling all of what most commands never import, which takes longer than installing it
PIP := -m pip install --quiet --disable-pip-version-check --no-compile
# a file's tests and a page's cells share what they build, so that each goes to one worker
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder
READY := $(VENV)/.ready
# Python keeps what it compiled, also where the surroundings forbid it: the suite starts hundreds of
# processes, and each would compile torch's sources anew, for 10 s of a core
unexport PYTHONDONTWRITEBYTECODE
ADDRESS := $(VENV)/.address

.PHONY: help reproduce test test-elsewhere test-slow lint book single zip audit bench clean

help:
	@echo "make reproduce [PRESET=laptop] [SEED=0]  recompute everything, then build the book from it"
	@echo "make test       every test but the slow ones"
	@echo "make test-elsewhere [SETTINGS=...]  the book's numbers under other machines' arithmetic"
	@echo "make test-slow  the slow ones: minutes to an hour"
	@echo "make lint       ruff: names, imports, style"
	@echo "make book       build the book from what is committed: pages, one page, a zip and a PDF"
	@echo "make audit      ask whether the pinned versions have known holes"
	@echo "make bench      measure speed and cost on this machine, into data/bench"

$(READY): requirements.txt pyproject.toml book/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) -r requirements.txt
	$(BIN)/python $(PIP) --no-deps --editable . --editable ./book
	touch $@

# The pages follow the repository's address in _config.yml; nothing changes where it did not.
$(ADDRESS): $(READY) _config.yml
	$(BIN)/python -m companion refresh --address
	touch $@

reproduce: $(ADDRESS)
	$(BIN)/python -m companion reproduce --preset $(PRESET) --seed $(SEED)

# a worker a core: threads of their own would only wait
test: export OMP_NUM_THREADS ?= 1
test: $(ADDRESS)
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) --nbval --nbval-current-env \
	    --ignore tests/notebook_cases tests notebooks

test-elsewhere: $(ADDRESS)
	$(BIN)/python -m tests.elsewhere $(SETTINGS)

test-slow: $(ADDRESS)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .

book: $(ADDRESS)
	$(BIN)/jupyter-book build . -W --keep-going --path-output runs/book
	@echo "open $(CURDIR)/runs/book/_build/html/index.html"

single: book
	@echo "on one page: $(CURDIR)/runs/book/_build/html/single.html"

zip: book
	@echo "to unpack anywhere: $(CURDIR)/runs/book/_build/html/book.zip"

audit: $(READY)
	test -x .venv-audit/bin/python || $(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python $(PIP) -r requirements-audit.txt
	$(BIN)/python -m tests.audit

bench: $(READY)
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) runs/book
