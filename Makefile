# make build | demo | test | check | lint | bench | profile | soak | memory | kills | vaultload | screens
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# The load scripts and black-box checks live beside this tree; see their READMEs.
PERF_SCRIPTS ?= ../shared/perf
CHECK_SCRIPTS ?= ../shared/checks
export PERF_SCRIPTS

.PHONY: build demo test check lint deps bench profile soak memory kills vaultload fuzz screens clean

build:
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/passerelle ./cmd/passerelle

# Needs Go alone. Eight messages by their ways, each checked; leaves the patient's page up for you to try.
demo:
	go run ./cmd/passerelle demo

# Everything, on a fresh Debian 12 with Go and root: installs the Debian packages that are missing, then runs all checks.
test: deps check
	go test -race -shuffle=on -timeout 20m ./...
	go test -run '^TestMemory$$' ./gateway/protect

deps:
	sh deploy/test-deps.sh

check:
	@out=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); test -z "$$out" || { echo "gofmt -w is due:"; echo "$$out"; exit 1; }
	go vet ./...

# Fetches staticcheck; not part of test, which must run without a network once its packages are there.
lint: check
	go run $(STATICCHECK) ./...

# The table of docs/performance.md beside Postfix in one run, under 20 minutes. Single cells: ROUTE=plain SIZE=4096 SESSIONS=10 RUNS=5
bench: build
	deploy/bench/run.sh

# Renews cmd/passerelle/default.pgo, by which every build knows what is hot: the bench of every route, about 5 minutes. Measure before and after.
profile:
	rm -rf bin/profile && mkdir -p bin/profile
	bin=$$(mktemp -d)/passerelle && CGO_ENABLED=0 go build -tags profile -pgo=off -trimpath -o $$bin ./cmd/passerelle && \
	PASSERELLE_PROFILE=$(CURDIR)/bin/profile BIN=$$bin ROUTE="plain trust smime openpgp pickup" SIZE="4096 1048576" SESSIONS="1 10" RUNS=3 deploy/bench/run.sh && \
	rm -r $$(dirname $$bin)
	go tool pprof -proto bin/profile/* > cmd/passerelle/default.pgo

# An hour of mixed load on every route: memory, descriptors and goroutines must not grow. SOAK_MINUTES=60 SOAK_RATE=40 (messages a second)
SOAK_MINUTES ?= 60
SOAK_RATE ?= 40
soak: build
	go run ./deploy/bench soak -minutes $(SOAK_MINUTES) -rate $(SOAK_RATE)

# Peak memory with 50 messages of 10 MB in hand at once, each route by itself.
memory: build
	go run ./deploy/bench memory

# 20 SIGKILLs under load behind a real Postfix, then 20 power cuts (a loop device that comes back as it was): nothing may be lost. Root.
KILLS_FLAGS ?=
kills: build
	go run ./deploy/bench kills -checks $(CHECK_SCRIPTS) $(KILLS_FLAGS)
	go run ./deploy/bench kills -checks $(CHECK_SCRIPTS) -power $(KILLS_FLAGS)

# A vault of a million deposits: its pages, downloads, start, listing, and mail while a tenth of it expires. 4 GB of disk and a million inodes.
vaultload: build
	go run ./deploy/bench vault

# Each fuzz test for FUZZTIME.
FUZZTIME ?= 30s
fuzz:
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p || exit 1; done; done

# The patient's and the sender's pages as Chromium shows them, into docs/screens.
screens:
	rm -f docs/screens/*.png
	SCREENSHOTS=$(CURDIR)/docs/screens go test -count 1 -run TestPatientInChromium ./gateway/portal

clean:
	rm -rf bin
