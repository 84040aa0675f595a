from auditspan.instrumentation.frames import (
    MAGIC,
    Damage,
    Frame,
    FrameKind,
    encode_frame,
    join_header,
    read_frames,
    split_header,
)
from hypothesis import given
from hypothesis import strategies as st

bodies = st.lists(st.binary(max_size=300), max_size=8)


def frames_of(items):
    return [item for item in items if isinstance(item, Frame)]


@given(bodies)
def test_frames_come_back_as_they_were_written(parts):
    data = MAGIC + b"".join(encode_frame(FrameKind.RECORD, number, body) for number, body in enumerate(parts))
    found = list(read_frames(data, len(MAGIC)))
    assert [(item.number, item.body) for item in found] == list(enumerate(parts))
    assert not parts or found[-1].end == len(data)


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5), st.data())
def test_a_torn_tail_costs_the_last_frame_only(parts, data):
    whole = [encode_frame(FrameKind.RECORD, number, body) for number, body in enumerate(parts)]
    kept = data.draw(st.integers(1, len(whole[-1]) - 1))
    torn = b"".join(whole[:-1]) + whole[-1][:kept]
    found = list(read_frames(torn))
    assert [item.body for item in frames_of(found)] == parts[:-1]
    assert found[-1] == Damage(len(torn) - kept, len(torn), tail=True)


@given(st.lists(st.binary(min_size=1, max_size=100), min_size=3, max_size=6), st.data())
def test_damage_in_the_middle_costs_that_frame_only(parts, data):
    whole = [encode_frame(FrameKind.RECORD, number, body) for number, body in enumerate(parts)]
    hit = data.draw(st.integers(1, len(whole) - 2))
    at = data.draw(st.integers(0, len(whole[hit]) - 1))
    broken = bytearray(whole[hit])
    broken[at] ^= data.draw(st.integers(1, 255))
    found = list(read_frames(b"".join([*whole[:hit], bytes(broken), *whole[hit + 1 :]])))
    assert [item.number for item in frames_of(found)] == [number for number in range(len(parts)) if number != hit]
    (damage,) = [item for item in found if isinstance(item, Damage)]
    assert not damage.tail
    assert damage.end - damage.start == len(whole[hit])


@given(st.binary(max_size=500))
def test_arbitrary_bytes_are_damage_and_no_error(data):
    for item in read_frames(data):
        assert isinstance(item, Frame | Damage)


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_headers_come_back(resource, scope):
    assert split_header(join_header(resource, scope)) == (resource, scope)
