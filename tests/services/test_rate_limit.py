"""How fast a key may ask, whatever the moments at which it does."""

from hypothesis import given
from hypothesis import strategies as st

from services.api.rate_limit import RateLimiter


@given(
    per_second=st.floats(0.1, 100),
    pauses=st.lists(st.floats(0, 2, allow_subnormal=False), max_size=200),
)
def test_no_stretch_of_time_has_more_than_its_share_and_a_burst(per_second: float, pauses: list[float]) -> None:
    now, taken = [1_000.0], []
    limiter = RateLimiter(lambda: now[0])
    for pause in pauses:
        now[0] += pause
        if limiter.wait_s("key", per_second) == 0:
            taken.append(now[0])
    burst = max(1.0, per_second)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= (taken[last] - start) * per_second + burst + 0.01


@given(per_second=st.floats(0.1, 100), asked=st.integers(1, 300))
def test_who_waits_as_long_as_told_is_let_in(per_second: float, asked: int) -> None:
    now = [0.0]
    limiter = RateLimiter(lambda: now[0])
    for _ in range(asked):
        wait = limiter.wait_s("key", per_second)
        if wait > 0:
            now[0] += wait
            assert limiter.wait_s("key", per_second) == 0


def test_keys_do_not_slow_each_other_down() -> None:
    limiter = RateLimiter(lambda: 5.0)
    assert [limiter.wait_s(key, 1) for key in ("a", "b", "a")] == [0, 0, 1]
    limiter.keep({"b"})
    assert [limiter.wait_s(key, 1) for key in ("a", "b")] == [0, 1]
