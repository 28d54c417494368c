"""The exception tree.

- ``GreenError``: everything that this project raises on purpose.

  - ``UserError``: a person can mend it; its text names the field, the value and the fix.

    - ``InvalidManifestError``: a manifest that does not fit the types.
    - ``InvalidTraceError``: an intensity trace that cannot be used.
    - ``TaskConfigError``: the task cannot run as written (an entrypoint, data, weights); exit 65.

  - ``ContractError``: a document between operator and pod that does not fit the contract.
  - ``ProviderError``: a provider of intensity gave no answer, or none that can be used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class GreenError(Exception):
    """Everything that this project raises on purpose."""


class UserError(GreenError):
    """A mistake that a person can mend; shown without a stack trace."""


class InvalidManifestError(UserError):
    """A manifest that does not fit the types.

    Args:
        source: the file, or whatever else names the document.
        problems: one line per problem, each "field: value: what is wrong; the fix".

    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


class InvalidTraceError(UserError):
    """An intensity trace that cannot be used; the text names the row and the fix."""


class TaskConfigError(UserError):
    """The task cannot run as written; the job fails at once, without retries."""


class ContractError(GreenError):
    """A document between operator and pod that does not fit the contract."""


class ProviderError(GreenError):
    """A provider of intensity gave no answer, or none that can be used.

    The text says what is wrong; who was asked is the caller's to add. It stays the same while the
    cause does, for it stands in statuses, and it holds nothing of the answer and no key.
    """
