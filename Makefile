# make repro: set up and run the pipeline.   make test: set up and run every check.
.DELETE_ON_ERROR:
.PHONY: repro test hint fuzz check site lock clean

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
unexport PYTHONDONTWRITEBYTECODE # what is imported is compiled once; compiling all that is installed takes 40 s

repro: .venv/ready
	dvc repro

# A test process that dies ends the run: pytest-xdist would begin a new one, which waits for ever.
test: hint .venv/ready-to-test check
	pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

hint:
	@echo "make test took 18 min 12 s on two cores of an AMD EPYC (Zen 4), and the first time some more for the environment (7 GB)."

# New examples for the property tests, for MINUTES: each pass draws FACTOR times those of make test.
fuzz: MINUTES ?= 30
fuzz: FACTOR ?= 5
fuzz: .venv/ready-to-test
	python -m tests.fuzz --minutes $(MINUTES) --factor $(FACTOR)

check: .venv/ready-to-test
	ruff check .
	ruff format --check .
	codespell
	mypy
	hadolint Dockerfile
	pre-commit validate-config
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

# The documentation as a site, in site/. To read it: python -m http.server -d site
site: .venv/ready-to-test
	python -m website site

# The environment: what the pipeline needs, and for the tests more. uv if it is there, else uv brought into the
# environment with pip.
.venv/ready: requirements.lock pyproject.toml
	$(call install,requirements.lock)
	rm -f .venv/ready-to-test
	touch $@

.venv/ready-to-test: requirements-dev.lock pyproject.toml
	$(call install,requirements-dev.lock)
	touch .venv/ready $@

define install
	@$(PYTHON) -c 'import sys; sys.exit("captioning needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; run make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -d .venv || $(PYTHON) -m venv .venv
	command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv
	uv pip sync --quiet --require-hashes $(1)
	uv pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m captioning.experiments.plots_page .dvc/plots.html # pages of dvc plots that need no network
	$(BIN)/dvc config --local plots.html_template plots.html
endef

# New versions of the dependencies, none of them younger than two weeks; the same ones in both files.
lock:
	$(LOCK) --extra build --upgrade -o requirements.lock
	$(LOCK) --extra dev --constraint requirements.lock --upgrade -o requirements-dev.lock

LOCK = uv pip compile pyproject.toml --universal --generate-hashes --no-annotate --python-version 3.11 --quiet \
	--exclude-newer "$$(date -u -d '14 days ago' +%F)" --custom-compile-command 'make lock'

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
