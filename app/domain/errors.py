"""What can go wrong besides an expected outcome.

The tree::

    LastunitError
    ├── StartupError            the service must not start; the message says what to change
    │   └── EngineAway          nobody answers where the engine should be, or it is loading its data
    ├── CommandRefused          what a person typed would do harm, or cannot be done
    ├── DataGone                the data directory was taken away from under its engine
    ├── LedgerBroken            an entry contradicts the entries before it
    ├── ArchiveUnavailable      the archive's database is away, locked, full, or turned off
    ├── MappingsFull            a source has as many names for our SKUs and locations as it may
    ├── ForeignLedger           what was read of the ledger is not what the engine has: rolled back, or exchanged
    └── EngineError             a command met a fault of the engine
        ├── EngineUnavailable   not executed: no connection, loading, out of memory, read only, ...
        ├── EngineBusy          not executed: it reached the engine past its not-after time, or too much was due
        ├── Backpressure        not executed: too many calls wait already, or it waited too long
        ├── DeadLettersFull     not kept: so much that could not be used waits for a person already
        ├── OutcomeUnknown      sent, but no answer: it may have happened
        └── EngineCorrupt       our bug or a damaged keyspace: a script said BADARG, INVARIANT or WRONGTYPE

Refusals (out of stock, expired, ...) are no errors: they are values in `app.domain.outcomes`.
"""


class LastunitError(Exception):
    """Root of every exception this project raises on purpose."""


class StartupError(LastunitError):
    """The service must not start; `str(error)` is one sentence for the operator that names the mend."""


class EngineAway(StartupError):
    """Nobody answers where the engine should be, or it is loading its data still."""


class CommandRefused(LastunitError):
    """What a person typed would do harm or cannot be done; `str(error)` is one sentence that names the mend."""


class DataGone(LastunitError):
    """The data directory is no longer there as the service ends; `str(error)` is one sentence for the operator."""


class LedgerBroken(LastunitError):
    """The entry with this sequence contradicts the entries before it; `str(error)` says how."""

    def __init__(self, sequence: int, fault: str) -> None:
        super().__init__(f"ledger entry {sequence} {fault}")
        self.sequence = sequence


class ArchiveUnavailable(LastunitError):
    """The archive does not serve: its database is away, locked or full, or it is off; `str(error)` says which."""


class ForeignLedger(LastunitError):
    """What was read of the ledger is not what the engine has: it was rolled back, or exchanged for another."""


class MappingsFull(LastunitError):
    """A source has as many names for our SKUs and locations as it may have; `str(error)` says how many."""


class EngineError(LastunitError):
    """A command met a fault of the engine."""


class EngineUnavailable(EngineError):
    """The command was not executed: the engine cannot be reached or refused to run anything."""


class EngineBusy(EngineError):
    """The command was not executed: it reached the engine too late, or more was due than it may settle."""


class Backpressure(EngineError):
    """The command was not sent: too many calls wait for the engine already, or this one waited too long."""


class DeadLettersFull(EngineError):
    """A delivery that could not be used was not kept: there is no room. Its sender delivers again."""


class OutcomeUnknown(EngineError):
    """The command was sent and no answer came: it may have been executed. Retry with the same Idempotency-Key."""


class EngineCorrupt(EngineError):
    """A script met what must not be: a malformed argument (our bug) or a key of the wrong type (a damaged keyspace)."""
