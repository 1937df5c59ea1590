.PHONY: install format check test slow

install:
	pip install -c constraints.txt -e ".[dev]"

format:
	ruff format .
	ruff check --fix .

check:
	ruff format --check .
	ruff check .
	mypy
	pytest -n auto

test:
	pytest -n auto

slow:
	pytest -n auto -m slow
