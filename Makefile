# make build | demo | test | check | lint | bench | soak
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# The load scripts live beside this tree; see their README.
PERF_SCRIPTS ?= ../shared/perf
export PERF_SCRIPTS

.PHONY: build demo test check lint deps bench soak fuzz clean

build:
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/passerelle ./cmd/passerelle

# Needs Go alone. Eight messages by their ways, each checked; leaves the patient's page up for you to try.
demo:
	go run ./cmd/passerelle demo

# Everything, on a fresh Debian 12 with Go and root: installs the Debian packages that are missing, then runs all checks.
test: deps check
	go test -race -shuffle=on -timeout 20m ./...

deps:
	sh deploy/test-deps.sh

check:
	@out=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); test -z "$$out" || { echo "gofmt -w is due:"; echo "$$out"; exit 1; }
	go vet ./...

# Fetches staticcheck; not part of test, which must run without a network once its packages are there.
lint: check
	go run $(STATICCHECK) ./...

# Beside Postfix in one run; only the ratio and the cpu per message are figures. ROUTE=plain SIZE=4096 SESSIONS=10 COUNT=2000 RUNS=5
bench: build
	deploy/bench/run.sh bench

# The same load for SOAK_MINUTES (30): memory and open files must not grow.
soak: build
	deploy/bench/run.sh soak

# Each fuzz test for FUZZTIME.
FUZZTIME ?= 30s
fuzz:
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

clean:
	rm -rf bin
