# Thin: every target is one script or one cargo call. `make demo` and `make test`
# do all of their own set-up; see README.md.

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo

HOST    := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RELEASE := target/$(HOST)/release
DEBUG   := target/$(HOST)/debug

.PHONY: all build demo test lint bench generated install install-service uninstall clean

all: build

# The release binary and the two names it is called by.
build:
	$(CARGO) build --release --locked
	ln -sf coracle $(RELEASE)/docker
	ln -sf coracle $(RELEASE)/dockerd

demo: build
	tests/scripts/demo $(RELEASE)

test:
	tests/scripts/test

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

bench: build
	tests/scripts/bench $(RELEASE)

# man/ and completions/ are committed; a test fails when they are not what this writes.
generated:
	$(CARGO) build --locked
	$(DEBUG)/coracle docs .

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 755 $(RELEASE)/coracle $(DESTDIR)$(PREFIX)/bin/coracle
	ln -sf coracle $(DESTDIR)$(PREFIX)/bin/docker
	ln -sf coracle $(DESTDIR)$(PREFIX)/bin/dockerd
	install -m 644 man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 644 completions/docker.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/docker
	install -m 644 completions/_docker $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_docker
	install -m 644 completions/docker.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/docker.fish

# For the service manager of this machine or session, found out unless INIT names one
# (systemd-user, systemd, openrc, sysv, runit). After `make install`.
install-service:
	$(DESTDIR)$(PREFIX)/bin/dockerd --install-service $(if $(INIT),--service-kind $(INIT)) $(if $(DESTDIR),--service-root $(DESTDIR))

uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,coracle docker dockerd)
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man1/,$(notdir $(wildcard man/*.1)))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man8/,$(notdir $(wildcard man/*.8)))
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/docker $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_docker $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/docker.fish

clean:
	$(CARGO) clean
