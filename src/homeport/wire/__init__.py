"""HTTP over the socket `calls`, for the callers of functions: containers, scripts, and the control plane.

    ask(address, request)             one request and its whole answer; blocks
    await ask_async(address, request) the same on an event loop
    frames(…), frames_async(…)        the frames of a stream, as they arrive

An address is the path of a Unix socket, or a `Remote`: the API of another machine's server, which passes calls on.

Connections are kept alive: one for each thread, and as many for a loop as there were requests at once. A call that
is cut off by an exception, Ctrl-C or a cancelled task closes its connection, and the container cancels the call.
Standard library only, because it runs beside the user's code. It knows nothing of pickles.
"""

from homeport.wire.address import Address as Address
from homeport.wire.address import Remote as Remote
from homeport.wire.address import address_of as address_of
from homeport.wire.blocking import ask as ask
from homeport.wire.blocking import frames as frames
from homeport.wire.looped import ask_async as ask_async
from homeport.wire.looped import close_idle as close_idle
from homeport.wire.looped import frames_async as frames_async
from homeport.wire.messages import Answer as Answer
from homeport.wire.messages import CutOff as CutOff
from homeport.wire.messages import Frames as Frames
from homeport.wire.messages import Request as Request
from homeport.wire.messages import Unreachable as Unreachable
