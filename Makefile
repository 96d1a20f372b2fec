# Tidegate: `make` lists the targets. A fresh machine needs the Rust toolchain, python3, make and curl.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Recipes share one target directory and its lock: side by side they would only wait.
.NOTPARALLEL:

# Exact, so that lint means the same everywhere.
CARGO_DENY_VERSION := 0.20.2
# The machine's own cargo-deny when there is one, else one that is kept in the tree.
CARGO_DENY := $(or $(shell command -v cargo-deny 2>/dev/null),.peers/bin/cargo-deny)

.PHONY: help lint test kills takeovers cuts many soak docs audit fuzz peers bench-proxy bench-weights bench-idle bench-latency bench-mesh bench-fuse bench-e2e bench-streams bench-judge

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lint: ## formatting, clippy, documentation, licences and banned crates; warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet
	@.ci/peers deny $(CARGO_DENY_VERSION)
	@if [[ -x "$$(command -v $(CARGO_DENY))" ]]; then \
	    echo "$(CARGO_DENY) check licenses bans sources"; \
	    $(CARGO_DENY) --locked check --hide-inclusion-graph licenses bans sources; \
	fi
	@if [[ -d deploy/terraform ]]; then .ci/peers terraform; fi

test: peers ## all tests, with the peers they talk to
	@export PATH="$(CURDIR)/.venv/bin:$$PATH"; \
	if cargo nextest --version >/dev/null 2>&1; then \
	    cargo nextest run --locked; \
	else \
	    cargo test --locked --lib --bins --tests; \
	fi
	cargo test --locked --doc

kills: ## kill -9 of a daemon under load, 50 times at random instants; some minutes, KILLS=N and SEED=N to choose
	TIDEGATE_KILLS=$(or $(KILLS),50) $(if $(SEED),TIDEGATE_SEED=$(SEED)) \
	    cargo test --locked --test it kill:: -- --nocapture --test-threads=2

takeovers: ## two daemons on one PostgreSQL database, whose driver is killed 30 times; KILLS=N and SEED=N to choose
	TIDEGATE_TAKEOVERS=$(or $(KILLS),30) $(if $(SEED),TIDEGATE_SEED=$(SEED)) \
	    cargo test --locked --test it takeover:: -- --nocapture --test-threads=2

cuts: ## kill -9 before, during and after every call and every write of a release on ECS; half an hour
	TIDEGATE_CUT_EVERY=1 cargo test --locked --test it cuts:: -- --nocapture --test-threads=2

many: ## 200 rollouts in one daemon, and what they cost; ROLLOUTS=N to choose
	TIDEGATE_ROLLOUTS=$(or $(ROLLOUTS),200) cargo test --locked --test it many:: -- --nocapture

soak: ## mixed traffic with faults through the proxy for 20 minutes: memory and descriptors stay; SECS=N to choose
	TIDEGATE_SOAK_SECONDS=$(or $(SECS),1200) cargo test --locked --test it soak:: -- --nocapture

peers: ## install what the tests talk to: into .venv, tests/peers/page and .peers, and Debian's when root
	@.ci/peers python
	@.ci/peers debian strace openssl sqlite3
	@.ci/peers debian iptables ip:iproute2 nsenter:util-linux setpriv:util-linux unshare:util-linux
	@.ci/peers postgresql
	@.ci/peers page
	@.ci/peers curl
	@.ci/peers prometheus

# The machine's own cargo-fuzz when there is one, else one that is kept in the tree.
CARGO_FUZZ := $(or $(shell command -v cargo-fuzz 2>/dev/null),.peers/bin/cargo-fuzz)
# Longest input: what a mesh file of the tests has, twice over.
FUZZ_MAX := 16384

fuzz: ## operations, mesh files, messages of proxies, requests, answers and tags by the fuzzer, each SECS=120 long; needs a nightly toolchain
	@[[ -x "$$(command -v $(CARGO_FUZZ))" ]] || cargo install cargo-fuzz --locked --root .peers
	@python3 fuzz/seeds.py
	@for target in operations documents discovery requests answers tags; do \
	    mkdir -p fuzz/corpus/$$target; \
	    PATH="$(CURDIR)/.peers/bin:$$PATH" cargo +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	        -max_total_time=$(or $(SECS),120) -max_len=$(FUZZ_MAX) -timeout=10 -rss_limit_mb=4096; \
	done

docs: ## API documentation into target/doc
	cargo doc --locked --no-deps --document-private-items

audit: ## known vulnerabilities in dependencies; fetches the advisory database from github.com
	@.ci/peers deny $(CARGO_DENY_VERSION)
	$(CARGO_DENY) --locked check advisories

# Options for the bench scripts, for example: make bench-proxy BENCH="--rounds 3 --seconds 2"
BENCH ?=
BENCH_PYTHON := PYTHONDONTWRITEBYTECODE=1 python3

bench-proxy: ## CPU time for a request beside HAProxy, nginx, Envoy and a raw relay (docs/PERFORMANCE.md)
	@$(BENCH_PYTHON) bench/proxy.py $(BENCH)

bench-weights: ## 1,000 weight changes under load: requests lost, and time until the last one by the old weights
	@$(BENCH_PYTHON) bench/weights.py $(BENCH)

bench-idle: ## memory that 10,000 idle client connections take, beside HAProxy
	@$(BENCH_PYTHON) bench/idle.py $(BENCH)

bench-latency: ## latency that the proxy adds at half of saturation, beside HAProxy, nginx and Envoy
	@$(BENCH_PYTHON) bench/latency.py $(BENCH)

bench-mesh: ## CPU time for a change of a mesh of 100, 1,000 and 10,000 resources
	@$(BENCH_PYTHON) bench/mesh.py $(BENCH)

# Rate of requests and weight of the release; --release, since a debug proxy would be late by itself.
FUSE_CASES = 500:10 2000:10 500:1
bench-fuse: ## what a release that turns dead costs, 20 times each at 10 % of 500 and 2,000 requests a second and at 1 %, and false alarms
	@for case in $(FUSE_CASES); do \
	    TIDEGATE_RUNS=20 TIDEGATE_FUSE_RATE=$${case%:*} TIDEGATE_FUSE_WEIGHT=$${case#*:} \
	        cargo test --locked --release --test it fuse::a_version_that_turns_dead -- --nocapture || exit 1; \
	done
	@TIDEGATE_RUNS=20 cargo test --locked --release --test it fuse::a_healthy_version -- --nocapture

bench-e2e: peers ## how fast bad releases are caught by native proxies and by Envoys, 20 of each kind, and that 50 healthy ones go through; 25 minutes
	@$(BENCH_PYTHON) bench/e2e.py $(BENCH)

bench-streams: peers ## 1,000 proxies on one control plane and a real Envoy: how fast new weights are in force, and what they cost
	cargo rustc --profile dist --locked --bin tidegate -- -C link-arg=-Wl,-z,pack-relative-relocs
	PATH="$(CURDIR)/.venv/bin:$$PATH" TIDEGATE_STREAMS=$(or $(STREAMS),1000) TIDEGATE_CHANGES=$(or $(CHANGES),200) \
	    TIDEGATE_PROGRAM=$(or $(PROGRAM),$(CURDIR)/target/dist/tidegate) \
	    cargo test --locked --release --test it streams:: -- --nocapture

bench-judge: ## what the judge is held to, by simulation: mistakes, failed requests, times; writes the tables of docs/JUDGE.md
	TIDEGATE_GOALS=1 cargo test --locked --release --test it goals:: -- --nocapture
