"""What a request may cost before anybody looks at it: how large its body may be."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Kind, respond


class _TooLargeError(Exception):
    pass


class LimitBody:
    """Answers 413 to a body of more bytes than that, whatever length it announces. It keeps none of it in memory."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting what comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most:
            await self._refuse(scope, receive, send)
            return
        seen, answered = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise _TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLargeError:
            if not answered:
                await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = respond(Kind.TOO_LARGE, Kind.TOO_LARGE.value.meaning, headers={"connection": "close"})
        await response(scope, receive, send)
