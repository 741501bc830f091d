"""What goes wrong with plain commands, those around the scripts, in our words."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions

from app.domain.errors import EngineUnavailable, OutcomeUnknown


@contextmanager
def translated() -> Iterator[None]:
    """Raises EngineUnavailable for what was not executed, OutcomeUnknown for what may have been."""
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.BusyLoadingError) as error:
        raise EngineUnavailable(f"the engine refuses ({type(error).__name__})") from None
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        raise OutcomeUnknown(f"the engine did not answer ({type(error).__name__})") from None
    except exceptions.RedisError as error:
        raise EngineUnavailable(f"the engine refuses ({type(error).__name__})") from None
