# Builds @NAME@ against the installed engine; nothing else of it is needed.
#   make            builds @NAME@.so
#   make check      runs it
#   make install    puts it where `pipe` finds it (for all users; see README.md)
PKG_CONFIG ?= pkg-config
CFLAGS ?= -O2 -g -Wall -Wextra

PIPE_CFLAGS := $(shell $(PKG_CONFIG) --cflags pipe)
PIPE_LIBS := $(shell $(PKG_CONFIG) --libs pipe)
PLUGIN_DIR := $(shell $(PKG_CONFIG) --variable=plugindir pipe)
ifeq ($(PLUGIN_DIR),)
$(error pkg-config does not know pipe: install it, or set PKG_CONFIG_PATH to the folder of its pipe.pc)
endif

all: @NAME@.so

@NAME@.so: @NAME@.c Makefile
	$(CC) -std=c11 $(CPPFLAGS) $(PIPE_CFLAGS) $(CFLAGS) -fPIC -fvisibility=hidden -shared $(LDFLAGS) -o $@ $< $(PIPE_LIBS) -lm

check: all
	./test.sh

install: all
	mkdir -p $(DESTDIR)$(PLUGIN_DIR)
	install -m 644 @NAME@.so $(DESTDIR)$(PLUGIN_DIR)/

clean:
	rm -f @NAME@.so

.PHONY: all check install clean
