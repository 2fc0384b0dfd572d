"""The rules that continue a visitor's trace, or make one (contract/tracing.py); only where traces are exported.

Each rule costs a request time, so the ids are made from the request's own id.
"""

from homeport.contract import tracing

OF = 65536  # of so many requests
FLAGS = "bytes(50,2),hex2i,and(1)"  # whether it is sampled; other flags are not passed on (W3C, 3.2.2.5)
#: The request's id without its dashes; `regsub` would cost more.
ID = "".join(
    f"%[unique-id,bytes({at},{size})]" for at, size in ((0, 8), (9, 4), (14, 4), (19, 4), (24, 12))
)
SPAN = f"%[unique-id,bytes(24,12)]{tracing.REQUEST:04x}"


def rules(share: float) -> list[str]:
    """Return the rules; `share` of the traces that are made here are sampled."""
    field = f"req.fhdr({tracing.PARENT})"
    is_single = f"{{ req.fhdr_cnt({tracing.PARENT}) eq 1 }}"
    new_trace = f"http-request set-header {tracing.PARENT} 00-{ID}-{SPAN}"
    lines = ["  # which trace", f"  http-request set-var(txn.trace) str({tracing.OWN})"]
    if (least := round(share * OF)) < OF:
        lines.append(
            f"  http-request set-var(txn.trace) str({tracing.UNSAMPLED}) unless {{ rand({OF}) lt {least} }}"
        )
    lines += [
        (
            f"  http-request set-var(txn.trace) {field},bytes(3,{tracing.WORD_LENGTH}) "
            f"if {is_single} {{ {field} -m reg '{tracing.VALID}' }}"
        ),
        f"  acl carried var(txn.trace) -m len {tracing.WORD_LENGTH}",
        f"  http-request del-header {tracing.STATE} unless carried",
    ]
    if least < OF:
        unsampled = f"{{ var(txn.trace) -m str {tracing.UNSAMPLED} }}"
        lines += [
            f"  {new_trace}-01 unless carried || {unsampled}",
            f"  {new_trace}-00 if {unsampled}",
        ]
    else:
        lines.append(f"  {new_trace}-01 unless carried")
    lines.append(
        f"  http-request set-header {tracing.PARENT} "
        f"00-%[var(txn.trace),bytes(0,32)]-{SPAN}-0%[var(txn.trace),{FLAGS}] if carried"
    )
    return lines
