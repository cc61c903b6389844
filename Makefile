# Coffer's one Makefile. `make help` lists the targets: a line `## target: what it does` here is a line there.
#
# Everything is built under $(B): build/, or build/asan, build/tsan, build/fuzz, build/coverage for the same sources
# compiled in other ways. A folder is an archive: base/*.c -> $(B)/libbase.a and so on; the arrows between folders are
# checked by `make lint`. A new .c file needs no line here: layers, programs, tests, shims and fuzz targets are found.

B       ?= build
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
CLANG   ?= clang-14
SAN     ?=
OPT     ?= -O2 -g
WERROR  ?= $(if $(CI),-Werror)
JOBS    ?= $(shell nproc)
PREFIX  ?= /usr/local
SECONDS ?= 60
CYCLES  ?= 50
FAULTS  ?= 30
SEED    ?= 1
FLIPS   ?= 1000
SEEDS   ?= 2000
MODEL   ?= short

LAYERS   := base resp hsm engine server
WARN     ?= -Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2
HARDEN   := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE -fno-plt
SANITIZE := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
CPPFLAGS += -I. -I/usr/include/p11-kit-1 -D_GNU_SOURCE
CFLAGS   += -std=c11 $(OPT) $(WARN) $(or $(SANITIZE),$(HARDEN)) -pthread
LDFLAGS  += -pthread $(if $(SAN),-fsanitize=$(SAN),-pie -Wl,-z,relro,-z,now) $(filter --coverage,$(OPT))
# LevelDB statically: engine/store.c needs a function that its shared library hides (tables by pread instead of mmap).
LEVELDB  := -Wl,-Bstatic -lleveldb -Wl,-Bdynamic -l:libsnappy.so.1 -lstdc++
# hsm/gcm.c takes ipsec-mb where there is one (x86-64).
IPSEC_MB := $(if $(wildcard /usr/include/intel-ipsec-mb.h),-lIPSec_MB)
# Not glibc's malloc: most of what one thread allocates here another one frees. Sanitizers bring their own.
JEMALLOC := $(if $(SAN),,-ljemalloc)
LIBS     := $(JEMALLOC) -levent_core -levent_pthreads -lcrypto $(IPSEC_MB) $(LEVELDB) -ldl
# For the network: the object store client, TLS. A program that needs neither does not load them, and the HSM's programs are
# not offered them.
NET      := -Wl,--as-needed -lcurl -lssl -lcrypto -Wl,--no-as-needed

.DEFAULT_GOAL := all

src = $(wildcard $(1)/*.c)
obj = $(patsubst %.c,$(B)/%.o,$(1))
lib = $(B)/lib$(1).a

# main_NAME.c holds the main() of the program coffer-NAME; it is not part of the layer's archive. The HSM's programs are
# linked with nothing that parses the network.
SERVER_MAINS := $(wildcard server/main_*.c)
HSM_MAINS    := $(wildcard hsm/main_*.c)
MAINS        := $(SERVER_MAINS) $(HSM_MAINS)
program       = $(patsubst main_%,$(B)/coffer-%,$(basename $(notdir $(1))))
PROGRAMS     := $(call program,$(MAINS))

LAYER_SRC := $(filter-out $(MAINS),$(foreach l,$(LAYERS),$(call src,$(l))))
TESTLIB   := $(call obj,$(call src,tests/lib))
UNITS     := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
E2E       := $(patsubst tests/e2e/%.c,$(B)/tests/e2e/%,$(call src,tests/e2e))
SIM       := $(B)/tests/sim/sim
SHIMS     := $(patsubst tests/shim/%.c,$(B)/tests/%.so,$(call src,tests/shim))
FUZZERS   := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
BENCHES   := $(patsubst bench/%.c,$(B)/bench/%,$(call src,bench))

# Link order is the reverse of the arrows.
ALL_LIBS := $(call lib,server) $(call lib,engine) $(call lib,hsm) $(call lib,resp) $(call lib,base)

## all: the programs, build/coffer-*
all: $(PROGRAMS) $(ALL_LIBS)

# ---- compiling and linking; outputs appear whole, so that builds side by side do not read half of one ----

# Changed when the way of compiling changes, so that everything is compiled anew then. CI's -Werror is no such change.
$(B)/.flags: FORCE
	@mkdir -p $(@D); f='$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS)'; [ "$$f" = "$$(cat $@ 2>/dev/null)" ] || echo "$$f" >$@
FORCE:

$(B)/%.o: %.c $(B)/.flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WERROR) -MMD -MP -MF $(@:.o=.d) -MT $@ -c -o $@.$$$$ $< && mv $@.$$$$ $@

define archive
$(call lib,$(1)): $(call obj,$(filter-out $(MAINS),$(call src,$(1))))
	@rm -f $$@.$$$$$$$$
	ar rcs $$@.$$$$$$$$ $$^ && mv $$@.$$$$$$$$ $$@
endef
$(foreach l,$(LAYERS),$(eval $(call archive,$(l))))

link = @mkdir -p $(@D)$(\n)$(CC) $(LDFLAGS) -o $@.$$$$ $(filter-out %.flags,$^) $(LIBS) $(1) && mv $@.$$$$ $@
define \n


endef

$(call program,$(SERVER_MAINS)): $(B)/coffer-%: $(B)/server/main_%.o $(ALL_LIBS)
	$(call link,$(NET))

$(call program,$(HSM_MAINS)): $(B)/coffer-%: $(B)/hsm/main_%.o $(call lib,hsm) $(call lib,base)
	$(call link)

$(B)/tests/test_%: $(B)/tests/unit/test_%.o $(ALL_LIBS)
	$(call link,-lcmocka $(NET))

$(B)/tests/test_linear: $(B)/tests/lib/linear.o

$(E2E): $(B)/tests/e2e/%: $(B)/tests/e2e/%.o $(TESTLIB) $(ALL_LIBS) | $(PROGRAMS)
	$(call link,-lcmocka -lhiredis $(NET))

$(SIM): $(call obj,$(call src,tests/sim)) $(call lib,engine) $(call lib,base)
	$(call link)

# Loaded into other programs: by LD_PRELOAD, or as a PKCS#11 module. Never instrumented themselves.
$(B)/tests/%.so: tests/shim/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -std=c11 -O2 -g $(WARN) $(WERROR) -fPIC -shared -pthread -o $@.$$$$ $< -ldl && mv $@.$$$$ $@

$(B)/bench/%: $(B)/bench/%.o $(ALL_LIBS)
	$(call link,-lhiredis $(NET))

# Fuzz targets: the layers compiled by clang with coverage feedback, in a build folder of their own.
ifeq ($(B),build/fuzz)
$(FUZZERS): build/fuzz/%: $(B)/tests/fuzz/%.o $(ALL_LIBS)
	$(CC) -pthread -fsanitize=fuzzer,address,undefined -o $@.$$$$ $^ $(LIBS) $(NET) && mv $@.$$$$ $@
else
$(FUZZERS): FORCE
	@$(AS_FUZZ) $@
endif

# The other ways to compile, as a make of their own each.
AS_ASAN     = $(MAKE) --no-print-directory B=build/asan SAN=address,undefined
AS_TSAN     = $(MAKE) --no-print-directory B=build/tsan SAN=thread
AS_FUZZ     = $(MAKE) --no-print-directory B=build/fuzz CC=$(CLANG) SAN=fuzzer-no-link,address,undefined OPT="-O1 -g" WARN=-Wall WERROR=
AS_COVERAGE = $(MAKE) --no-print-directory B=build/coverage OPT="-O1 -g --coverage"

units-build: $(PROGRAMS) $(UNITS) $(SIM) $(SHIMS)
tests-build: units-build $(E2E)
fuzz-build: $(FUZZERS)

# ---- tests; docs/testing.md says more ----

SCRIPTS = $(wildcard tests/e2e/*.sh)
in = $(patsubst $(B)/%,build/$(1)/%,$(2))

# What `check` tries of the clients: those that need no registry but Debian's.
DEBIAN_CLIENTS = same redis-cli hiredis python ruby php

# Not under sanitizers: dumps of a process whose memory is mostly theirs.
SANITIZED = $(UNITS) $(filter-out %/core,$(E2E))

## check: installs what the tests need, builds, runs every test but the long campaigns; ends in `N passed, N failed`
# Under sanitizers only the unit tests: check-asan and check-tsan run the servers too.
check:
	@packaging/packages build run test clients object-store model
	@$(MAKE) --no-print-directory -j$(JOBS) all tests-build
	@$(AS_ASAN) -j$(JOBS) units-build
	@$(AS_TSAN) -j$(JOBS) units-build
	@$(AS_FUZZ) -j$(JOBS) fuzz-build
	@CYCLES=$(CYCLES) SEEDS=$(SEEDS) FAULTS=$(FAULTS) CLIENTS="$(DEBIAN_CLIENTS)" tests/run -j $(JOBS) -t 900 -s 5 tests/lint/lint tests/clients/run $(SCRIPTS) $(E2E) $(UNITS) $(SIM) \
		tests/sim/mutants model/check $(call in,asan,$(UNITS) $(SIM)) $(call in,tsan,$(UNITS)) $(FUZZERS)

## check-unit: unit tests
check-unit: all $(UNITS) $(SHIMS)
	@tests/run -j $(JOBS) $(UNITS)

## check-e2e: real servers, real clients
check-e2e: all $(E2E) $(SHIMS)
	@tests/run -j $(JOBS) $(E2E) $(SCRIPTS)

## check-asan: unit and end-to-end tests under AddressSanitizer and UBSan
check-asan:
	@$(AS_ASAN) -j$(JOBS) all tests-build
	@tests/run -j $(JOBS) $(call in,asan,$(SANITIZED))

## check-tsan: unit and end-to-end tests under ThreadSanitizer
check-tsan:
	@$(AS_TSAN) -j$(JOBS) all tests-build
	@tests/run -j $(JOBS) $(call in,tsan,$(SANITIZED))

## check-redis: parts of Redis's own test suite, from the distribution's source package
check-redis: all
	@packaging/packages redis
	@tests/run -t 1800 redis-tests/run

## check-clients: redis-cli, hiredis, redis-py, redis-rb, phpredis, node-redis, ioredis, Keyv, connect-redis; CLIENTS="python ruby" for some
check-clients: all
	@packaging/packages run clients
	@command -v npm >/dev/null || packaging/packages node
	@tests/run -t 900 tests/clients/run

## check-redis-sentinel: Redis's own Sentinel suite, with redis-sentinel as it is, over nodes of ours
check-redis-sentinel: all
	@packaging/packages test redis
	@tests/run -t 1800 redis-tests/sentinel

## check-crash: kill -9 of a server under load, CYCLES=50 times; every acknowledged write must be there
check-crash: all $(B)/tests/e2e/crash
	@CYCLES=$(CYCLES) tests/run -t $$((120 + $(CYCLES) * 10)) $(B)/tests/e2e/crash

## check-sentinel: a cell of three under three unmodified Sentinels, which kill, pause and order
check-sentinel: all $(B)/tests/e2e/sentinel
	@packaging/packages test
	@tests/run $(B)/tests/e2e/sentinel

## check-faults: a cell under Sentinels and clients, FAULTS=30 faults drawn from SEED=1; what clients saw must be linearizable
check-faults: all $(B)/tests/e2e/faults
	@packaging/packages test
	@FAULTS=$(FAULTS) SEED=$(SEED) tests/run -t $$((300 + $(FAULTS) * 60)) $(B)/tests/e2e/faults

## check-damage: FLIPS=1000 bits flipped in files of an engine, each found and made good; every step that can die, dying
check-damage: $(B)/tests/test_damage $(B)/tests/test_steps_fault
	@FLIPS=$(FLIPS) STRIDE=1 tests/run -t $$((1200 + $(FLIPS))) $(B)/tests/test_damage $(B)/tests/test_steps_fault

## check-sim: the replication core in a simulated cell, SEEDS=2000 seeds of three nodes, half as many of five, and scenarios
check-sim: $(SIM)
	@SEEDS=$(SEEDS) tests/run -t $$((60 + $(SEEDS) / 20)) $(SIM)

## check-mutants: each rule of the core broken on purpose; the simulation must notice within 2,000 seeds
check-mutants:
	@packaging/packages build
	@tests/run -t 600 tests/sim/mutants

## check-model: the Promela model of the rules, MODEL=short, or long (an hour), or mutants
check-model:
	@packaging/packages build model
	@MODEL=$(MODEL) tests/run -t 7200 model/check

## fuzz: each fuzz target for SECONDS=60
fuzz:
	@$(AS_FUZZ) -j$(JOBS) fuzz-build
	@tests/run -j $(JOBS) -s $(SECONDS) -t $$((60 + $(SECONDS))) $(FUZZERS)

## lint: format, arrows between folders, banned calls, headers, generated documents
lint: all
	@tests/run tests/lint/lint

## coverage: unit and end-to-end tests with gcov; build/coverage/report.txt, html/index.html
coverage:
	@packaging/packages build run test object-store coverage
	@find build/coverage -name '*.gcda' -delete 2>/dev/null || true
	@$(AS_COVERAGE) -j$(JOBS) all tests-build
	-@tests/run -j $(JOBS) $(call in,coverage,$(UNITS) $(E2E))
	@mkdir -p build/coverage/html
	@gcovr -r . --object-directory build/coverage -e tests/ --html-details build/coverage/html/index.html --txt build/coverage/report.txt
	@cat build/coverage/report.txt

# ---- the rest ----

## bench: Coffer beside others, every script in bench/; results are text, in minutes
bench: all $(BENCHES)
	@packaging/packages bench
	@set -e; for script in $(filter-out bench/lib.sh,$(wildcard bench/*.sh)); do echo "== $$script"; $$script; done

SOURCES = $(filter-out %.tbl.h,$(shell tests/lint/files c h))

## format: clang-format 14 on every source file
format:
	@packaging/packages test
	clang-format-14 -i $(SOURCES)

## docs: prints the references in docs/ anew from the tables of commands and directives
docs: $(B)/coffer-server
	$(B)/coffer-server --print-command-reference >$(B)/commands.md && mv $(B)/commands.md docs/commands.md
	$(B)/coffer-server --print-config-reference >$(B)/config.md && mv $(B)/config.md docs/config.md
	$(B)/coffer-server --print-default-config >$(B)/coffer.conf && mv $(B)/coffer.conf packaging/coffer.conf

## install: programs, coffer.conf and the systemd unit, under DESTDIR and PREFIX=/usr/local
install: all
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
ifneq ($(wildcard packaging/coffer.conf),)
	install -d $(DESTDIR)/etc/coffer
	[ -e $(DESTDIR)/etc/coffer/coffer.conf ] || install -m 640 packaging/coffer.conf $(DESTDIR)/etc/coffer
endif
ifneq ($(wildcard packaging/coffer.service),)
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's,/usr/bin/,$(PREFIX)/bin/,' packaging/coffer.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/coffer.service
endif

## clean: removes build/
clean:
	rm -rf build

## help: this list
help:
	@sed -n 's/^## \([a-z0-9-]*\): /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS='	' read -r t d; do printf '%-12s %s\n' "$$t" "$$d"; done

-include $(patsubst %.o,%.d,$(call obj,$(LAYER_SRC) $(MAINS) $(wildcard tests/unit/*.c tests/e2e/*.c tests/lib/*.c tests/sim/*.c tests/fuzz/*.c bench/*.c)))
.PHONY: all bench check check-unit check-e2e check-asan check-tsan check-clients check-redis check-redis-sentinel check-crash check-sentinel check-faults check-damage check-sim check-mutants check-model fuzz lint coverage format docs install clean help \
	tests-build units-build fuzz-build FORCE
.SECONDARY:
