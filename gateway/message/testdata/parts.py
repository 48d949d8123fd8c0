# Reads messages from stdin, each behind its length (4 bytes, big endian), and answers each with the leaves that Python's two email
# parsers see: length and JSON, a list of [transfer encoding, body as it stands, body decoded], both in base64.
import base64, email, email.policy, json, struct, sys

def leaves(raw, policy):
    out = []
    for part in email.message_from_bytes(raw, policy=policy).walk():
        if part.is_multipart():
            continue
        body = part.get_payload()
        if not isinstance(body, str) or not body:
            continue
        stands = body.encode("ascii", "surrogateescape")
        encoding = str(part.get("content-transfer-encoding", "7bit")).strip().lower()
        try:
            decoded = part.get_payload(decode=True) or b""
        except Exception:
            decoded = b""
        out.append([encoding, base64.b64encode(stands).decode(), base64.b64encode(decoded).decode()])
    return out

while True:
    head = sys.stdin.buffer.read(4)
    if len(head) < 4:
        break
    raw = sys.stdin.buffer.read(struct.unpack(">I", head)[0])
    seen = []
    for policy in (email.policy.compat32, email.policy.default):
        try:
            seen += leaves(raw, policy)
        except Exception:  # it reads nothing then, or a body in no known way
            pass
    answer = json.dumps(seen).encode()
    sys.stdout.buffer.write(struct.pack(">I", len(answer)) + answer)
    sys.stdout.buffer.flush()
