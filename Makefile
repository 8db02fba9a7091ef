# SPDX-License-Identifier: Apache-2.0
# `make run` and `make test` do all the set-up themselves, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml $(wildcard src/_xmppcore/*.py src/_xmppcore/*.pyx src/_xmppcore/*.pxd src/_xmppcore/c/*)
FUZZ_S ?= 60
CC_FUZZ ?= clang
C := src/_xmppcore/c
XML := xml.c xml_names.c xml_text.c scan.c
SANITIZED = LD_PRELOAD=$$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=build/debug/lib $(BIN)/python
BUILD_SANITIZED = XIOT_DEBUG=1 $(BIN)/python setup.py -q build --build-base build/debug --build-lib build/debug/lib
FUZZER = $(CC_FUZZ) -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -I$(C)

.PHONY: run test test-other lint types bench bench-check load fuzz debug soak wheel clean
.DELETE_ON_ERROR:

# Installed, editable, with its extensions compiled in place; made again when the core has changed.
$(VENV)/.built: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test,lint,bench]'
	touch $@

run: $(VENV)/.built
	$(BIN)/xiot demo

# Whole files to each process; three for two cores, since many tests wait.
test: $(VENV)/.built
	$(BIN)/python -m pytest -q -n 3 --dist loadfile

# Installed for another Python, in an environment of its own, and tested there: make test-other OTHER=python3.13 ONLY='tests/core tests/exi'
OTHER ?= python3.13
ONLY ?= tests
test-other:
	$(OTHER) -m venv build/other
	build/other/bin/python -m pip install --quiet --upgrade pip
	build/other/bin/python -m pip install --quiet '.[test]'
	build/other/bin/python -m pytest -q -n 3 --dist loadfile -k 'not sanitizer' $(ONLY)

lint: $(VENV)/.built types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/cython-lint src/_xmppcore
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(C)/*.[ch] tests/*/*.[ch] benches/*.c benches/load/*.[ch]
	$(BIN)/python tests/wheels.py

types: $(VENV)/.built
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest _xmppcore --allowlist tests/typing/stubtest_allowlist.txt

# The core beside others; tables and plots in benches/results, and in README.md, of this and of what `make load` has found.
bench: $(VENV)/.built
	$(BIN)/python benches/targets.py --json build/bench/parser.json
	$(BIN)/python -m pytest benches --benchmark-enable --benchmark-only -q --benchmark-json build/bench/core.json
	$(BIN)/python benches/report.py

# Instruction counts beside those in benches/counts.json.
bench-check: $(VENV)/.built
	$(BIN)/python benches/counts.py

# Whole servers, all cases: an hour or two, on a machine that does nothing else.
load: $(VENV)/.built
	$(BIN)/python benches/load/run.py --all
	$(BIN)/python benches/load/run.py --sessions
	$(BIN)/python benches/report.py

# libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer, FUZZ_S seconds for each target.
fuzz:
	mkdir -p build/fuzz
	$(FUZZER) tests/fuzz/fuzz_xml.c $(addprefix $(C)/,$(XML)) -o build/fuzz/xml
	$(FUZZER) tests/fuzz/fuzz_expat.c $(addprefix $(C)/,$(XML)) -lexpat -o build/fuzz/expat
	$(FUZZER) tests/fuzz/fuzz_jid.c $(C)/jid.c -o build/fuzz/jid
	$(FUZZER) tests/fuzz/fuzz_router.c $(addprefix $(C)/,router.c outbuf.c sm.c jid.c $(XML)) -o build/fuzz/router
	$(FUZZER) tests/fuzz/fuzz_exi.c $(C)/exi_*.c $(C)/scan.c -o build/fuzz/exi
	mkdir -p $(addprefix build/fuzz/found-,xml expat jid router exi)
	build/fuzz/xml -max_total_time=$(FUZZ_S) -print_final_stats=1 build/fuzz/found-xml tests/fuzz/corpus/xml
	build/fuzz/expat -max_total_time=$(FUZZ_S) -print_final_stats=1 -dict=tests/fuzz/xml.dict build/fuzz/found-expat tests/fuzz/corpus/xml
	build/fuzz/jid -max_total_time=$(FUZZ_S) -print_final_stats=1 build/fuzz/found-jid
	build/fuzz/router -max_total_time=$(FUZZ_S) -max_len=600 -print_final_stats=1 build/fuzz/found-router
	$(BIN)/python -m tests.fuzz.make_corpus_exi build/fuzz/corpus-exi build/fuzz/types.xeg
	XIOT_FUZZ_GRAMMAR=build/fuzz/types.xeg build/fuzz/exi -max_total_time=$(FUZZ_S) -print_final_stats=1 build/fuzz/found-exi build/fuzz/corpus-exi tests/fuzz/corpus/exi
	$(BUILD_SANITIZED)
	$(SANITIZED) -m tests.fuzz.exi_streams $(FUZZ_S)

# The core with assertions, AddressSanitizer and UndefinedBehaviorSanitizer, in a copy of its own, and its tests on it; but those that
# build a fuzz target with sanitizers do so anyway.
debug: $(VENV)/.built
	$(BUILD_SANITIZED)
	$(SANITIZED) -m pytest -q -n 3 --dist loadfile tests/core tests/exi -k 'not sanitizer' -p no:cacheprovider

# The long forms of what `make test` does shortly.
soak: $(VENV)/.built
	XIOT_SOAK=1 $(BIN)/python -m pytest -q tests
	$(MAKE) fuzz FUZZ_S=3600

# A wheel for this machine, in dist/; whether it is whole, runs on other machines, and works in an environment of its own.
wheel: $(VENV)/.built
	rm -rf build/lib.* build/bdist.* build/wheel build/repaired
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/auditwheel repair --wheel-dir build/repaired build/wheel/*.whl
	$(BIN)/python tests/wheels.py build/repaired/*.whl
	mkdir -p dist && mv build/repaired/*.whl dist

clean:
	rm -rf build dist $(VENV) src/*.egg-info src/_xmppcore/*.so
