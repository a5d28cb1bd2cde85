.DEFAULT_GOAL := help
SHELL := /bin/bash
GO ?= go
# Without cgo the linker drops what nobody calls: a library imports package plugin, which keeps everything.
export CGO_ENABLED = 0

help: ## This list
	@awk -F ':.*## ' '/^[a-z\/_-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/slipway, bin/slipway-scanner and bin/slipway-cluster
	$(GO) build -ldflags "-s -w" -o bin/slipway ./cmd/slipway
	cd scanner && $(GO) build -ldflags "-s -w" -o ../bin/slipway-scanner ./cmd/slipway-scanner
	cd cluster && $(GO) build -ldflags "-s -w" -o ../bin/slipway-cluster ./cmd/slipway-cluster

demo: ## The story on real parts; leaves everything running
	@$(GO) run ./demo

demo-down: ## Take away all that the demo made
	@$(GO) run ./demo down

check: ## Format, vet, fast tests
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) test ./...

test: ## Everything, on real parts: what CI runs
	@./.ci/test

e2e: ## The end-to-end scenarios alone, those with a real forge too
	SLIPWAY_E2E=1 $(GO) test -count=1 -timeout 40m -v ./e2e
	SLIPWAY_E2E=1 $(GO) test -count=1 -timeout 20m -v -run '^TestRealGitea' ./cmd/slipway ./driver/gitea

bench: ## Benchmarks as ratios; writes docs/benchmarks.md
	SLIPWAY_E2E=1 $(GO) run ./bench

update: ## Rewrite golden files and generated docs
	$(GO) test . ./cmd/slipway ./config ./driver/helm ./stage/approve ./stage/chart ./stage/plan -update

screenshots: ## Pictures of the running demo's pages for docs
	$(GO) run ./demo/screenshots -release

.PHONY: help build demo demo-down check test e2e bench update screenshots
