# The front door. `make help` lists the targets.
#
# NAME=value on the command line becomes a parameter of the notebooks that a target runs, for instance
#     make train SYMBOL=^GSPC EPOCHS=5 LOOKBACK=90
# A name that none of them has is refused.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PORT   ?= 5000

# Given on the command line, but meant for make and not for a notebook.
OWN        := PYTHON=% PORT=% HOST=%
PARAMETERS  = $(filter-out $(OWN),$(MAKEOVERRIDES))

export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export TF_CPP_MIN_LOG_LEVEL ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup run data features train evaluate forecast backtest leaks score audit lab ui serve showcase bench test lint lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/ready ## set up .venv from requirements.lock; the other targets do so by themselves

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"expected Python 3.11, 3.12 or 3.13; $(PYTHON) is {v[0]}.{v[1]}; use: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --compile --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q src
	$(BIN)/python -c 'from forecastlib.models.lstm import kernels; kernels.compile_all()'
	@touch $@

# The notebooks that train at most twice; backtest, leaks and the replay of score train many times.
STORY := data features train evaluate forecast

run: setup ## run the notebooks from data to forecast for both bundled indices, or for SYMBOL=...
	$(BIN)/forecastlib run $(STORY) $(if $(filter SYMBOL=%,$(PARAMETERS)),,SYMBOL=^IXIC,^GSPC) $(PARAMETERS)

data: ## fetch prices and check them; here and below, parameters may follow as NAME=value
features: ## features, windows and the split
train: ## train, evaluate, log and register a model
evaluate: ## the model beside the baselines and the naive recipe
forecast: ## forecast with the champion
backtest: ## refit along time, FOLDS=5 SEEDS=0,1,2; takes minutes, and goes on after an interruption
leaks: ## what the usual naive recipe is worth as its leaks are closed; takes minutes
data features train evaluate forecast backtest leaks: setup
	$(BIN)/forecastlib run $@ $(PARAMETERS)

score: setup ## settle and score recorded forecasts, and replay the last two years
	$(BIN)/forecastlib run scorecard $(PARAMETERS)

audit: setup ## look for leaks of the future, with the real configuration, in both bundled indices or in SYMBOL=...
	$(BIN)/forecastlib audit $(if $(filter SYMBOL=%,$(PARAMETERS)),,SYMBOL=^IXIC,^GSPC) $(PARAMETERS)

lab: setup ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

ui: setup ## compare runs and see the registered models in MLflow, on PORT=5000
	$(BIN)/mlflow server --backend-store-uri sqlite:///mlruns/mlflow.db --artifacts-destination mlruns/artifacts --host 127.0.0.1 --port $(PORT) --workers 1

serve: PORT = 8000
serve: setup ## the service and its page, on PORT=8000 of HOST=127.0.0.1; other NAME=value are meant for its trainings
	$(BIN)/forecastlib serve --port $(PORT) $(if $(HOST),--host $(HOST)) $(PARAMETERS)

showcase: setup ## draw what the README shows anew, from the present champions
	$(BIN)/forecastlib showcase

bench: setup ## measure speed and memory, compared with other libraries where installed; takes minutes
	PYTHONPATH=tests $(BIN)/python -m benchmarks

# Two processes of one thread each: several threads apiece would only get in each other's way.
test: setup ## run every test
	OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: ## resolve pyproject.toml anew into requirements.lock (needs uv on the PATH)
	uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header -o requirements.lock

clean: ## remove what runs have produced, but not .venv
	git clean -fdX -e '!$(VENV)' -- reports mlruns
