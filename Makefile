# By hand what ./test does for all of it.

.PHONY: fmt vet test kit suite bench adapters proxies traefik

fmt: ## write the format
	gofmt -w $$(git ls-files '*.go')

vet: ## read the code for mistakes
	go vet ./... ./.ci/summary

test: ## all tests, without fuzzing, and without installing anything
	INSTALL=0 FUZZTIME=0 ./test

kit: ## the conformance kit over each adapter
	go test -race -shuffle=on ./cluster/... ./adapter/...

suite: ## the cases of the protocol suites, the official clients, servers and a browser
	go test -race -shuffle=on ./engine/... ./protocol/... ./client/... ./e2e/... ./cmd/atoll/...

bench: ## benchmarks; compare two runs with benchstat
	go test -run '^$$' -bench . -benchmem ./...

adapters: ## the tests of the adapters, and the table of docs/adapters.md from what they show
	go test -json -p 2 ./adapter/... ./e2e | go run ./.ci/promises

proxies: ## the set-ups behind real proxies, and the table of docs/load-balancing.md from what they show; PARTIAL=1 keeps rows of programs that are missing
	ATOLL_E2E=1 go test -count=1 -json ./e2e/proxies | go run ./.ci/proxies $(if $(PARTIAL),-partial)

traefik: ## Traefik for the tests, which no package of Debian has: 12 minutes of processor time or more, once
	deploy/traefik/build.sh
