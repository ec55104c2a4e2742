"""Manifests for tests: written, and read."""

from __future__ import annotations

from pathlib import Path

from p2v.batch.jobs import Batch
from p2v.batch.manifest import read_batch
from p2v.core.errors import BadManifest, Mistake

FULL = """\
# everything once
schema: 1
store: state/jobs.sqlite
budget:
  copies: 3
  appliances: 2
  boots: 2
  jobs: 12
  bytes-per-second: 200M
  copies-per-storage: 1
  memory: 8G
  storages:
    /mnt/nfs1: {copies: 1, bytes-per-second: 100M}
    exports: {copies: 2}
  hosts:
    filer1.example: {bytes-per-second: 50M/s}
defaults:
  target: converted
  verify: boot
  window: 22:00-05:30
  attempts: 5
  map:
    VM Network: bridge:br0
    dmz: lan
  keys: env:FLEET_KEY
  checksum: yes
machines:
- name: web1
  source: exports/web1.vmx
- name: db1
  source: [exports/db1-root.vmdk, /srv/db1-data.vmdk]
  target: /srv/kvm
  format: raw
  wave: 2
  priority: -3
  window: ~
  before: [./stop-service, db1]
  after:
    command: [notify]
    seconds: 30
  verify: none
  attempts: 1
  host: export1
  keys: ["/dev/sda2:file:secret.txt", env:DB1]
  memory: 4G
  compress: zstd
  cpus: 4
  checksum: false
  network: ["1:user", "2:bridge:br1"]
  map: {DMZ: user}
"""


def written(folder: Path, text: str, name: str = "jobs.yaml") -> Path:
    """A manifest in a folder."""
    file = folder / name
    file.write_text(text, "utf-8")
    return file


def read(folder: Path, text: str, name: str = "jobs.yaml") -> Batch:
    """What a manifest in this folder says."""
    return read_batch(written(folder, text, name))


def mistakes(folder: Path, text: str, name: str = "jobs.yaml") -> tuple[Mistake, ...]:
    """What is wrong with a manifest; nothing where it can be read."""
    try:
        read(folder, text, name)
    except BadManifest as error:
        return error.mistakes
    return ()
