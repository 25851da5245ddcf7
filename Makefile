# `make help` lists the targets.
#
# NAME=value on the command line sets a parameter of the notebooks that a target runs, for example
#     make train SYMBOL=^GSPC EPOCHS=5 LOOKBACK=90
# An unknown name is an error.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PORT   ?= 5000

# Variables on the command line that are for make itself; the others are parameters of notebooks. Their values are
# taken as they were written and quoted for the shell: M&M.NS, $, parentheses and spaces mean nothing to either.
MAKE_ONLY  := PYTHON PORT HOST
NAMES      := $(filter-out $(MAKE_ONLY),$(sort $(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $v)),$v))))
quoted      = '$(subst ','\'',$(value $1))'
PARAMETERS  = $(foreach v,$(NAMES),$v=$(call quoted,$v))

export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup run data features train evaluate forecast backtest leaks score audit lab ui serve showcase bench test lint lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/ready ## create .venv from requirements.lock; other targets do this when necessary

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"expected Python 3.11, 3.12 or 3.13; $(PYTHON) is {v[0]}.{v[1]}; use: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --compile --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q src
	$(BIN)/python -c 'from forecastlib.models.lstm import kernels; kernels.compile_all()'
	@touch $@

# The notebooks that train at most twice; backtest, leaks and score train many times.
STORY := data features train evaluate forecast

run: setup ## run the notebooks from data to forecast for both bundled indices, or for SYMBOL=...
	$(BIN)/forecastlib run $(STORY) $(if $(filter SYMBOL symbol,$(NAMES)),,SYMBOL=^IXIC,^GSPC) $(PARAMETERS)

data: ## fetch prices and check them; this and the following targets take parameters as NAME=value
features: ## compute features, windows and the split
train: ## train, evaluate, log and register a model
evaluate: ## compare the model with the baselines and the naive recipe
forecast: ## forecast with the champion
backtest: ## walk-forward backtest, FOLDS=5 SEEDS=0,1,2; takes minutes, and can be resumed
leaks: ## score the usual naive recipe as its leaks are closed one by one; takes minutes
data features train evaluate forecast backtest leaks: setup
	$(BIN)/forecastlib run $@ $(PARAMETERS)

score: setup ## settle and score recorded forecasts, and replay the last two years
	$(BIN)/forecastlib run scorecard $(PARAMETERS)

audit: setup ## search for leaks of future data, for both bundled indices or for SYMBOL=...
	$(BIN)/forecastlib audit $(if $(filter SYMBOL symbol,$(NAMES)),,SYMBOL=^IXIC,^GSPC) $(PARAMETERS)

lab: setup ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

ui: setup ## compare runs and registered models in MLflow, on PORT=5000
	$(BIN)/mlflow server --backend-store-uri sqlite:///mlruns/mlflow.db --artifacts-destination mlruns/artifacts --host 127.0.0.1 --port $(PORT) --workers 1

serve: PORT = 8000
serve: setup ## start the service and its page on HOST=127.0.0.1, PORT=8000; other NAME=value set parameters of its trainings
	$(BIN)/forecastlib serve --port $(PORT) $(if $(HOST),--host $(HOST)) $(PARAMETERS)

showcase: setup ## redraw the figures and the table of the README from the current champions
	TF_CPP_MIN_LOG_LEVEL=3 PYTHONPATH=tests $(BIN)/python -m showcase

bench: setup ## measure speed and memory, compared with other libraries where installed; takes minutes
	PYTHONPATH=tests $(BIN)/python -m benchmarks

# Two single-threaded processes; more threads per process would only compete for the cores.
test: setup ## run every test
	OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: ## resolve pyproject.toml into requirements.lock (needs uv on the PATH)
	uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header -o requirements.lock

clean: ## remove the output of runs, but not .venv
	git clean -fdX -e '!$(VENV)' -- reports mlruns
