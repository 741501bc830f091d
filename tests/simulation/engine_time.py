"""Engine time as a model: what the wall clock's jumps may do to it, and what not."""

STEP_US_MAX = 60_000_000
STORED_AGE_US_MAX = 30_000_000


class EngineTime:
    """Engine time, counted from when it was last stored: by a write, after a jump, after half a minute without one."""

    def __init__(self, wall_us: int) -> None:
        self.store(wall_us, wall_us)

    def store(self, wall_us: int, now_us: int) -> None:
        self._wall_us, self._now_us = wall_us, now_us

    def read(self, wall_us: int, *, seen_us: int) -> int:
        """Now. A step back adds nothing; one of more than a minute counts as far as the gateway saw time come too."""
        step_us = wall_us - self._wall_us
        believed_us = max(STEP_US_MAX, seen_us - self._now_us)
        now_us = self._now_us + max(0, min(step_us, believed_us))
        if not 0 <= step_us <= STORED_AGE_US_MAX:
            self.store(wall_us, now_us)
        return now_us
