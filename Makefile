# MedSegLens from a fresh clone: `make demo`. `make` alone lists what there is.
# Needs git, make, bash and Python 3.11 or 3.12; all else is installed into .venv by pip as this machine configures it.

SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# Through the environment, so that CASE may hold spaces.
export CASE PACK PYTHON

VENV := .venv
SAELENS_VENV := .venv-saelens
comma := ,
IS_SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))

# Shell text: makes the environment $(1) unless a working one is there. A Python is tried before it is chosen, since a
# pyenv shim may be on the PATH and lead nowhere. Debian and Ubuntu keep the venv module in a package of its own.
define make_environment
if ! $(1)/bin/python -c '$(IS_SUPPORTED)' 2>/dev/null; then \
	python=$$(type -ap $${PYTHON:-python3.12 python3.11 python3} | while IFS= read -r path; do \
		if "$$path" -c '$(IS_SUPPORTED)' 2>/dev/null; then echo "$$path"; break; fi; done); \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 or 3.12 runs here (tried: $${PYTHON:-python3.12, python3.11, python3})." >&2; \
		echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
		package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing $$package, which $$python needs to make an environment ..."; \
			{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$$package"; } >/dev/null \
				|| { echo "apt-get could not install $$package: see above." >&2; exit 1; }; \
		else \
			echo "$$python cannot make an environment. Run: sudo apt-get install $$package" >&2; exit 1; \
		fi; \
	fi; \
	echo "Making $(1) with $$python ($$("$$python" -V)) ..."; \
	"$$python" -m venv --clear $(1) && echo '*' > $(1)/.gitignore; \
fi
endef

# Shell text: installs torch by its exact version, then the project with the extras $(2), into the environment $(1).
define install
$(1)/bin/pip install -qq --disable-pip-version-check "$$(grep '^torch==' constraints.txt)" && \
$(1)/bin/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[$(2)]'
endef

.PHONY: help venv demo slicer-demo test test-one test-all lint benchmarks packs clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.installed ## make .venv and install everything (PYTHON=<python> to choose which Python)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(call make_environment,$(VENV))
	@echo "Installing MedSegLens and what it needs into $(VENV): a minute or two, longer on a slow connection ..."
	@$(call install,$(VENV),dev)
	@touch $@
	@echo "Done: $(VENV)/bin/medseglens"

demo: venv ## segment a case, find its latents, edit one: build/demo/report.html (CASE=<folder> PACK=<name or folder>)
	@$(VENV)/bin/medseglens demo --out build/demo $${CASE:+"$$CASE"} $${PACK:+--pack "$$PACK"}

# The Slicer module's host draws off screen by EGL and shows Qt widgets: libraries of the system, not of pip.
GRAPHICS := libegl1 libgl1 libgl1-mesa-dri libopengl0 libxkbcommon0 libxcb-cursor0 libdbus-1-3 libfontconfig1 \
	libglib2.0-0
CAN_DRAW := import PySide6.QtWidgets, vtk; w = vtk.vtkEGLRenderWindow(); w.SetSize(8, 8); w.Render(); \
	assert "OpenGL" in w.ReportCapabilities()

$(VENV)/.graphics: $(VENV)/.installed
	@if ! $(VENV)/bin/python -c '$(CAN_DRAW)' >/dev/null 2>&1; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing the system's graphics libraries ($(GRAPHICS)) ..."; \
			{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(GRAPHICS); } >/dev/null \
				|| { echo "apt-get could not install them: see above." >&2; exit 1; }; \
		else \
			echo "Graphics libraries are missing. Run: sudo apt-get install $(GRAPHICS)" >&2; exit 1; \
		fi; \
		$(VENV)/bin/python -c '$(CAN_DRAW)' >/dev/null || exit 1; \
	fi
	@touch $@

slicer-demo: venv $(VENV)/.graphics ## the Slicer module without Slicer: panel and views in a window, or build/slicer-demo/*.png (CASE=, PACK=)
	@$(VENV)/bin/python -m Testing.panel.demo $${CASE:+--case "$$CASE"} $${PACK:+--pack "$$PACK"}

# What draws off screen shares a process with as little else as may be. Two processes of one thread each: most tests are
# short and hardly gain by a second thread. Which tests go to one process together, Testing/conftest.py says.
DRAWING := Testing/scene Testing/slicerhost Testing/panel
FAST := -m "not slow and not saelens"
TWO := OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 --dist loadscope

test: venv $(VENV)/.graphics ## the fast tests (one room: make test-one ARGS=Testing/cases)
	@$(TWO) $(FAST) $(DRAWING:%=--ignore=%)
	@$(VENV)/bin/pytest $(FAST) Testing/scene
	@$(TWO) $(FAST) Testing/slicerhost Testing/panel

test-one: venv $(VENV)/.graphics ## some of the fast tests: ARGS=<what pytest takes>
	@$(VENV)/bin/pytest $(FAST) $(ARGS)

test-all: venv $(VENV)/.graphics $(SAELENS_VENV)/.installed ## every test, those that take minutes or need sae-lens too
	@$(SAELENS_VENV)/bin/pytest -m saelens
	@$(TWO) -m "not saelens" $(DRAWING:%=--ignore=%)
	@$(VENV)/bin/pytest -m "not saelens" Testing/scene
	@$(TWO) -m "not saelens" Testing/slicerhost Testing/panel

# Apart from .venv, because sae-lens brings some sixty packages that MedSegLens does not need.
$(SAELENS_VENV)/.installed: pyproject.toml constraints.txt
	@$(call make_environment,$(SAELENS_VENV))
	@echo "Installing sae-lens into $(SAELENS_VENV) for the tests that need it: a few minutes ..."
	@$(call install,$(SAELENS_VENV),dev$(comma)train)
	@touch $@

lint: venv ## style (ruff) and the direction of the imports (import-linter)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/lint-imports --no-logo

benchmarks: venv ## each command in benchmarks/, its numbers into build/benchmarks/*.json
	@mkdir -p build/benchmarks; failed=0; \
	for script in $$(grep -l '__name__ == "__main__"' benchmarks/*.py); do \
		json=build/benchmarks/$$(basename "$$script" .py).json; \
		echo "$$script -> $$json"; \
		if $(VENV)/bin/python "$$script" --json > "$$json.part"; then mv "$$json.part" "$$json"; \
		else rm -f "$$json.part"; failed=1; echo "$$script failed" >&2; fi; \
	done; exit $$failed

# The first lens of each pack is its default; the other seeds of each say how stable it is. Some hours on two cores; see
# docs/training.md.
DATA ?= ../shared/data/brats2021
LENSES_unet := model.1/batch_topk-128-k16 model.1.submodule.1.submodule.1.submodule/batch_topk-128-k32
LENSES_segformer := model.decode_head.activation/batch_topk-256-k32 model.segformer.stages.2/batch_topk-192-k24

# In float16, where benchmarks/lens_trust.py looks for them.
KEEP_SEEDS := import sys; from MedSegLensLib.lenses.files import load_lens, save_lens; \
	[save_lens(lens, "/".join(["Resources/Seeds", sys.argv[1], lens.tap, "seed-%d" % lens.metadata["training"]["seed"]]), "float16") \
	for lens in map(load_lens, sys.argv[2:])]

# Cases that a pack was trained on, of those in a folder.
TRAINED_ON := import sys; from pathlib import Path; from MedSegLensLib.packs.pack import load_pack; \
	print(*(n for n in load_pack(sys.argv[1]).info.trained_on.cases if Path(sys.argv[2], n).is_dir()))

packs: pack-unet pack-segformer ## train the shipped packs anew (DATA=<folder of the BraTS 2021 cases>)
	@set -e; run="$(VENV)/bin/medseglens"; work=build/train/comparison; cohort=$$work/brats2021-train.json; mkdir -p $$work; \
	$$run cohort create brats2021-train "$(DATA)" --out $$cohort --replace \
		--only $$($(VENV)/bin/python -c '$(TRAINED_ON)' Resources/Packs/glioma-unet "$(DATA)"); \
	$$run diff models Resources/Packs/glioma-unet Resources/Packs/glioma-segformer --cohort $$cohort \
		--journal $$work/journal --no-panel --out $$work/unet-segformer; \
	for one in unet segformer; do \
		$$run pack add-comparisons Resources/Packs/glioma-$$one --comparison $$work/unet-segformer \
			--out Resources/Packs/glioma-$$one --replace; \
	done

pack-%: venv
	@set -e; run="$(VENV)/bin/medseglens"; conf=Resources/Configurations; trained=build/train/lenses-$*; lenses=; \
	$$run train segmenter --config $$conf/glioma-$*.json --cases "$(DATA)" --out build/train/glioma-$*; \
	$$run train lens --config $$conf/lenses-$*.json --segmenter build/train/glioma-$* --cases "$(DATA)" --out $$trained; \
	for lens in $(LENSES_$*); do \
		$$run evaluate lens $$trained/$$lens-seed-21 --segmenter build/train/glioma-$* --cases "$(DATA)" --quick \
			--seed-lens $$trained/$$lens-seed-22 $$trained/$$lens-seed-23 --record --out build/train/report-$$lens; \
		lenses="$$lenses --lens $$trained/$$lens-seed-21"; \
		$(VENV)/bin/python -c '$(KEEP_SEEDS)' glioma-$* $$trained/$$lens-seed-22 $$trained/$$lens-seed-23; \
	done; \
	$$run pack build --segmenter build/train/glioma-$* $$lenses --about $$conf/about-glioma-$*.json \
		--cases "$(DATA)" --out Resources/Packs/glioma-$* --replace; \
	$$run pack add-reference Resources/Packs/glioma-$* --cases "$(DATA)" --journal build/train/reference-$* \
		--out Resources/Packs/glioma-$* --replace

clean: ## remove what demo and benchmarks wrote, and the caches (trainings in build/train stay)
	@rm -rf build/demo build/benchmarks .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	@find MedSegLensLib Testing benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove the environments and all of build/ too
	@rm -rf build $(VENV) $(SAELENS_VENV)
