# Rust and Python 3 are enough for everything here but `make load` and `make test-ingress`, which want Go. Other programs are
# installed, pinned, under the git-ignored .parts/ by tools/parts.py.

PYTHON ?= python3
PARTS = $(PYTHON) tools/parts.py

.DEFAULT_GOAL := help
.PHONY: help build demo test test-long test-ingress load bench fuzz fmt lint deny clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the binary, optimised: target/release/scoregate
	cargo build --release --bin scoregate

demo: ## Score a model through a real Envoy; DEMO_EXIT=1 ends by itself, otherwise it stays up
	$(PARTS) envoy model-server
	$(PYTHON) demo/demo.py

test: ## Run every test; ends with `N passed, N failed`
	$(PARTS) envoy model-server azureml-core azure-ai-ml prometheus kubectl
	$(PYTHON) tests/run.py

test-long: ## Run the tests that take minutes
	$(PARTS) envoy model-server azureml-core
	$(PYTHON) tests/long/main.py

test-ingress: ## Try k8s/ at real control planes: Kubernetes, Istio, Envoy Gateway; the first run builds them, half an hour
	$(PARTS) envoy kubectl etcd kubernetes istio envoy-gateway
	$(PYTHON) tests/ingress/main.py

load: ## Measure checks per second and latency with ghz (see load/README.md)
	$(PARTS) ghz
	$(PYTHON) load/run.py

bench: ## Measure scale and what issuing costs (see docs/benchmarks/); BENCH=gates, services or issuing is one part
	cargo bench --bench measure -- $(BENCH)

fuzz: ## Fuzz each parser for FUZZ_SECONDS, 20 unless told (see fuzz/README.md)
	$(PARTS) cargo-fuzz
	$(PYTHON) fuzz/run.py

fmt: ## Format the Rust code
	cargo fmt

lint: ## Check format, lints and documentation
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --features scoregate/fault-injection,scoregate/otlp --lib --examples -- -D warnings
	cargo clippy --no-default-features --lib --bins -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --document-private-items

deny: ## Check licences, sources and banned crates
	$(PARTS) cargo-deny
	.parts/cargo-deny/bin/cargo-deny check bans licenses sources

clean: ## Remove what was built and installed
	cargo clean
	rm -rf .parts
