# One door for people and for CI. `make setup` brings everything the rest needs.

PYTHON  := /usr/bin/python3
VENV    := .venv
BIN     := $(VENV)/bin
DEMO    := demo
JOBS    := 2
ROWS    :=
OUT     := converted
RUNS    := 1000000
FORMATS :=

# Debian and its kin.
APT_RUN  := qemu-utils qemu-system-x86 seabios ovmf swtpm swtpm-tools python3-guestfs python3-hivex \
            libguestfs-tools libguestfs-xfs linux-image-amd64 nbdkit nbdkit-plugin-python kmod e2fsprogs \
            python3-venv libvirt-clients libxml2-utils openssh-client
# What building sample guests, the tests and the benchmarks need on top.
APT_TEST := osinfo-db distro-info-data makefs libvirt-daemon libvirt-daemon-driver-qemu mmdebstrap arch-test fdisk mtools dosfstools exfatprogs xfsprogs btrfs-progs grub-pc-bin grub-common cpio gzip \
            xz-utils zstd lz4 libnbd-bin ntfs-3g virt-v2v procps strace binutils selinux-utils extlinux xorriso openssl rpm db-util attr acl libcap2-bin bindfs fuse3 zsh fish \
            gcc-mingw-w64-i686-win32 gcc-mingw-w64-x86-64-win32 wine wine64 chromium poppler-utils
# What guests for other architectures are made and emulated with: rows of `make matrix` that are skipped without it.
APT_MATRIX := qemu-user-static qemu-system-arm qemu-system-ppc qemu-system-misc qemu-efi-aarch64
DNF_MATRIX := qemu-user-static qemu-system-aarch64-core qemu-system-ppc-core qemu-system-s390x-core edk2-aarch64
# A Slurm of one host, that docs/cluster.md is tried with.
APT_MATRIX += slurmctld slurmd slurm-client munge
DNF_MATRIX += slurm slurm-slurmctld slurm-slurmd munge
# What docs/batch-night.md is tried with, beside the host's systemd.
APT_MATRIX += logrotate
DNF_MATRIX += logrotate
# Fedora, RHEL and their kin: the same by their names there (not run on this project's machines).
DNF_RUN  := qemu-img qemu-kvm edk2-ovmf swtpm swtpm-tools python3-libguestfs python3-hivex guestfs-tools \
            libguestfs-xfs nbdkit nbdkit-python-plugin kmod e2fsprogs libvirt-client libxml2 openssh
DNF_TEST := mmdebstrap util-linux mtools dosfstools exfatprogs ntfsprogs xfsprogs btrfs-progs grub2-pc-modules cpio gzip xz zstd lz4 \
            libnbd ntfs-3g virt-v2v procps-ng strace binutils libselinux-utils syslinux-extlinux xorriso openssl \
            rpm-build libdb-utils attr acl libcap bindfs fuse3 zsh fish mingw32-gcc mingw64-gcc wine-core chromium poppler-utils

.PHONY: help setup setup-matrix packages demo convert test lint compiled matrix bench fuzz clean

# Hundreds of tests start the program: without its bytecode each start compiles all of it, which is most of a start.
unexport PYTHONDONTWRITEBYTECODE

help:
	@echo "make demo                      set up, then convert and boot a sample VMware guest"
	@echo "make convert SOURCE=disk.vmdk  the same with your own disk, into $(OUT)/"
	@echo "make setup                     packages of the distribution and $(VENV)"
	@echo "make test                      everything that must hold (make matrix: the long rows)"
	@echo "make setup-matrix              what the rows of make matrix take that are no PCs, and Slurm"
	@echo "make bench [ROWS=a,b]          measured against virt-v2v, virt-inspector, qemu-img"
	@echo "make fuzz [RUNS=N] [FORMATS=a,b] hostile images for every reader (docs/formats/fuzzing.md)"

setup: packages $(VENV)/.installed

# The stamp names the package lists, so that a changed list is installed and an unchanged one costs nothing.
packages:
	@tools/packages apt $(APT_RUN) $(APT_TEST) -- dnf $(DNF_RUN) $(DNF_TEST)

setup-matrix: setup
	@tools/packages apt $(APT_MATRIX) -- dnf $(DNF_MATRIX)

$(VENV)/.installed: setup.cfg pyproject.toml | packages
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@
	@echo "$(BIN)/p2v is ready; '$(BIN)/p2v doctor' says what this host can do"

demo: setup
	@mkdir -p $(DEMO)/source
	@test -e $(DEMO)/source/vmguest.vmdk || $(BIN)/python -m tests.fixtures.make vmware --format vmdk-stream -o $(DEMO)/source/vmguest.vmdk
	@test -e $(DEMO)/result/vmguest.json || $(BIN)/p2v convert $(DEMO)/source/vmguest.vmdk -o $(DEMO)/result --verify >/dev/null
	@$(BIN)/p2v report $(DEMO)/result/vmguest.json

convert: setup
	@test -n "$(SOURCE)" || { echo "make convert SOURCE=disk.vmdk [OUT=folder]" >&2; exit 64; }
	$(BIN)/p2v convert "$(SOURCE)" -o "$(OUT)" --verify

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What pytest makes of the tests' sources, on the core that mypy leaves idle: otherwise every worker makes it for itself.
compiled: $(VENV)/.installed
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null 2>&1 || true # the run itself says what is wrong

# tests/spreading.py says in which order, and what is done by one worker.
test: setup
	@$(MAKE) --no-print-directory --jobs 2 lint compiled
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not matrix"

# Every row of the matrix; what the guests did goes into docs/support-matrix.md, also when some failed.
MATRIX_ROWS := .matrix-rows
matrix: setup
	rm -rf $(MATRIX_ROWS)
	P2V_MATRIX_ROWS=$(MATRIX_ROWS) $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup; status=$$?; \
	$(BIN)/python -m tests.support_matrix $(MATRIX_ROWS) && exit $$status

bench: setup
	$(BIN)/python -m bench $(if $(ROWS),--rows $(ROWS))

fuzz: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]' || echo "atheris cannot be had here" >&2
	$(BIN)/python -m tests.fuzz --runs $(RUNS) --workers $(JOBS) $(if $(FORMATS),--formats $(FORMATS))

clean:
	rm -rf $(VENV) $(DEMO) $(OUT) build .mypy_cache .ruff_cache .pytest_cache
