"""The role says of itself what is true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml
from playing import ROLE, ROOT


def test_defaults_and_argument_specs_are_equal() -> None:
    """Same variables, same defaults; a default of the specification is what the documentation shows."""
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    assert {name: option["default"] for name, option in options.items()} == defaults


def test_every_variable_is_described() -> None:
    """In a sentence."""
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    for name, option in options.items():
        text = (
            " ".join(option["description"]) if isinstance(option["description"], list) else option["description"]
        )
        assert text.endswith("."), name


def test_the_playbooks_pass_ansible_lint_in_its_production_profile() -> None:
    """With the one exception that .ansible-lint gives a reason for."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansiblelint", "--offline", "--profile", "production", "-q", "--nocolor"),
            *("deploy.yml", "provisioning"),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_for_systemd_refuses_what_a_peer_never_needs() -> None:
    """Hardening is easily lost in an edit."""
    unit = (ROLE / "templates" / "kademlia@.service.j2").read_text().splitlines()
    for line in (
        "ProtectSystem=strict",
        "NoNewPrivileges=true",
        "CapabilityBoundingSet=",
        "MemoryDenyWriteExecute=true",
        "Restart=on-failure",
    ):
        assert line in unit
