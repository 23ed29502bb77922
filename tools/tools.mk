# What the program brings along: templates, manual pages, completion.

# Templates of `pipe new-plugin` become strings: sampler.c.tpl gives pipe_template_sampler_c.
nodist_pipe_SOURCES = $(TOOL_TEMPLATES:.tpl=.tpl.c)
CLEANFILES += $(TOOL_TEMPLATES:.tpl=.tpl.c)
$(TOOL_TEMPLATES): ;
%.tpl.c: %.tpl
	$(AM_V_GEN)$(MKDIR_P) $(@D) && \
	{ n=`basename $< .tpl | tr .- __`; \
	  printf '/* generated from %s.tpl */\nextern const char pipe_template_%s[];\nconst char pipe_template_%s[] =\n' "$$n" "$$n" "$$n"; \
	  sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' $<; echo ';'; } > $@.tmp && mv $@.tmp $@

# The program that was just built describes itself and the plugins that were built
# with it, and nothing else that this machine may have.
RUN_PIPE = PIPE_PLUGIN_PATH= PIPE_DATA_DIR=$(abs_builddir)/nothing PIPE_CACHE_DIR=$(abs_builddir)/cache ./pipe$(EXEEXT)

# ---- manual pages: pipe(1), pipe-VERB(1), pipe-PLUGIN(7) ----
# Which ones there are is known only now, so they are installed by hooks.
man1dir = $(mandir)/man1
man7dir = $(mandir)/man7
man/stamp: pipe$(EXEEXT) $(plugin_LTLIBRARIES)
	$(AM_V_GEN)rm -rf man && $(RUN_PIPE) man --all=man && touch $@
all-local: man/stamp

install-data-hook: install-pages
uninstall-hook: uninstall-pages
install-pages: man/stamp
	$(MKDIR_P) "$(DESTDIR)$(man1dir)" "$(DESTDIR)$(man7dir)"
	$(INSTALL_DATA) man/*.1 "$(DESTDIR)$(man1dir)"
	$(INSTALL_DATA) man/*.7 "$(DESTDIR)$(man7dir)"
uninstall-pages:
	cd man && for p in *.1; do rm -f "$(DESTDIR)$(man1dir)/$$p"; done
	cd man && for p in *.7; do rm -f "$(DESTDIR)$(man7dir)/$$p"; done
clean-local:
	rm -rf man completion cache
.PHONY: install-pages uninstall-pages

# ---- completion ----
bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/site-functions
fishcompletiondir = $(datadir)/fish/vendor_completions.d
nodist_bashcompletion_DATA = completion/pipe
nodist_zshcompletion_DATA = completion/_pipe
nodist_fishcompletion_DATA = completion/pipe.fish
completion/pipe completion/_pipe completion/pipe.fish: pipe$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) completion && \
	case $@ in *.fish) s=fish ;; */_pipe) s=zsh ;; *) s=bash ;; esac && \
	./pipe$(EXEEXT) completion $$s > $@.tmp && mv $@.tmp $@
