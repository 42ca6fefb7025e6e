"""What goes wrong with bytes: ends that are missing, bits that flip, parts in the wrong place."""

from hypothesis import strategies

# Whatever a parser may stumble over: signs, separators, extremes of numbers in bytes and in words.
TOKENS = (
  *(b'\x00', b'\xff', b'\x00' * 8, b'\xff' * 8, b'\x7f\xff\xff\xff', b'\xff\xff\xff\x7f', b'\x80'),
  *(b'\n', b'\r\n', b' ', b'"', b',', b':', b'-', b'0', b'9', b'[', b']', b'{', b'}', b'..', b'/'),
  *(b'-1', b'1e999', b'NaN', b'null', b'true', b'[]', b'{}', b'""', b'9' * 25, b'\xc3\x28'),
  *(b'[' * 3000, b'PK\x05\x06', b'RIFF', b'idx1', b'ustar'),
)


def _flip(draw, content, at, end):
  del end
  if content:
    content[min(at, len(content) - 1)] ^= 1 << draw(strategies.integers(0, 7))


def _insert(draw, content, at, end):
  del end
  content[at:at] = draw(strategies.binary(min_size=1, max_size=20))


def _write_token(draw, content, at, end):
  token = draw(strategies.sampled_from(TOKENS))
  over = draw(strategies.booleans())
  content[at : at + len(token) if over else at] = token
  del end


def _truncate(draw, content, at, end):
  del draw, end
  del content[at:]


def _delete(draw, content, at, end):
  del draw
  del content[at:end]


def _repeat(draw, content, at, end):
  del draw
  content[end:end] = content[at:end]


def _splice(draw, content, at, end):
  place = draw(strategies.integers(0, len(content)))
  content[place : place + end - at] = content[at:end]


def _swap(draw, content, at, end):
  del draw
  middle = (at + end) // 2
  content[at:end] = content[middle:end] + content[at:middle]


def _erase(draw, content, at, end):
  del draw
  content[at:end] = bytes(end - at)


KINDS = (_flip, _flip, _write_token, _insert, _truncate, _delete, _repeat, _splice, _swap, _erase)


@strategies.composite
def damaged(draw, intact: bytes) -> bytes:
  """`intact` with one to three things wrong: most often small ones, anywhere."""
  content = bytearray(intact)
  for _ in range(draw(strategies.integers(1, 3))):
    kind = draw(strategies.sampled_from(KINDS))
    # Headers break more often than contents do, so half of all begin among the first bytes.
    near = draw(strategies.booleans())
    at = draw(strategies.integers(0, min(len(content), 256 if near else len(content))))
    end = min(len(content), at + draw(strategies.integers(1, 64 if near else 4096)))
    kind(draw, content, at, end)
  return bytes(content)
