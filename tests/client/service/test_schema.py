"""The OpenAPI document against the service: Schemathesis asks what it allows, and more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.client.service.parts import enrol, service

from veilface_client.service import gate

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")
EXAMPLES = 12  # of each operation
ROLES = {
    "people": "privacy-officer", "users": "administrator", "calibrate": "administrator",
    "log": "auditor", "expire": "privacy-officer", "receipts": "auditor", "budget": "auditor",
    "check": "auditor", "metrics": "auditor", "me": "operator", "consent": "enroller",
}  # fmt: skip


def _role(method: str, path: str) -> str:
    if method == "POST" and path.startswith("/api/people"):
        return "enroller"
    return ROLES.get(path.removeprefix("/api/").partition("/")[0], "operator")


def test_the_document_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is a 5xx, and each is of a status, a type and a shape that the document names."""
    monkeypatch.setattr(gate, "WRONG_PER_MINUTE", 10**6)  # it also tries to come in without a token
    monkeypatch.setattr(gate, "DELAY_SECONDS", 0.0)
    with service(tmp_path / "shop") as (client, tokens, _):
        enrol(client, tokens["enroller"], "Anna Berg", b"anna/1")
        schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) > 20
        for operation in operations:
            header = tokens[_role(operation.method.upper(), operation.path)]
            _verify(operation, header)


def _verify(operation: schemathesis.APIOperation, header: dict[str, str]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def keeps(case: schemathesis.Case) -> None:
        case.call_and_validate(
            headers=header,
            # Random bytes are photographs by the document, and no photographs of anybody.
            excluded_checks=[checks.positive_data_acceptance],
        )

    keeps()
