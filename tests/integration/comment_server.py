"""The comments of one pull request, as GitHub's and GitLab's APIs serve them: a local stand-in for both.

It is as strict as they are about tokens, lengths and paths, gives lists in pages, and can be told to refuse or fail.
"""

from __future__ import annotations

import http.server
import json
import re
import threading

GITHUB_LIST = "/repos/acme/fleet/issues/7/comments"
GITHUB_ONE = re.compile(r"/repos/acme/fleet/issues/comments/(\d+)")
GITLAB_LIST = "/projects/42/merge_requests/7/notes"
GITLAB_ONE = re.compile(r"/projects/42/merge_requests/7/notes/(\d+)")
TOKEN = "t0ken"
BOT = {"id": 1, "login": "github-actions[bot]", "type": "Bot"}
ADA = {"id": 2, "login": "ada", "type": "User"}


class CommentServer:
    """Serves on 127.0.0.1 until it is closed."""

    def __init__(self) -> None:
        self.comments: dict[int, dict] = {}
        self.me = BOT
        """Whose token it is."""
        self.tells_bots = True
        """Whether a bot's token can ask over GraphQL whose it is: GitHub's own server lets it."""
        self.may_write = True
        self.troubles: list[int] = []
        """What the next requests are answered with."""
        self.asked: list[str] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def add(self, body: str, author: dict) -> int:
        number = max(self.comments, default=100) + 1
        self.comments[number] = {"id": number, "body": body, "user": author, "author": author}
        return number

    @property
    def bodies(self) -> list[str]:
        return [comment["body"] for comment in self.comments.values()]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def _answer(self, status: int, document: object = None, **headers: str) -> None:
        data = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _serve(self) -> None:
        owner = self.server.owner
        path, _, query = self.path.partition("?")
        owner.asked.append(f"{self.command} {path}")
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        github = path.startswith("/repos") or "Authorization" in self.headers
        given = self.headers.get("Authorization") if github else self.headers.get("PRIVATE-TOKEN")
        if owner.troubles:
            self._answer(owner.troubles.pop(0), {"message": "trouble"}, Location=f"{owner.url}/elsewhere")
        elif given != (f"Bearer {TOKEN}" if github else TOKEN):
            self._answer(401, {"message": "Bad credentials"})
        elif path == "/user":
            forbidden = github and owner.me["type"] == "Bot"
            self._answer(403 if forbidden else 200, {"message": "no user"} if forbidden else owner.me)
        elif path == "/graphql" and body["query"] == "{viewer{login}}":
            viewer = {"viewer": {"login": owner.me["login"]}} if owner.tells_bots else None
            self._answer(200, {"data": viewer})
        elif path == (GITHUB_LIST if github else GITLAB_LIST):
            self._list(owner, query, body, 65_536 if github else 1_000_000)
        else:
            one = (GITHUB_ONE if github else GITLAB_ONE).fullmatch(path)
            number = int(one[1]) if one else None
            self._one(owner, number, body, "PATCH" if github else "PUT")

    def _list(self, owner: CommentServer, query: str, body: dict, longest: int) -> None:
        if self.command == "GET":
            asked = dict(pair.split("=") for pair in query.split("&"))
            size, page = int(asked["per_page"]), int(asked["page"])
            self._answer(200, list(owner.comments.values())[(page - 1) * size : page * size])
        elif not owner.may_write:
            self._answer(403, {"message": "Resource not accessible by integration"})
        elif self.command != "POST" or not 0 < len(body["body"]) <= longest:
            self._answer(422, {"message": "Validation Failed"})
        else:
            self._answer(201, owner.comments[owner.add(body["body"], owner.me)])

    def _one(self, owner: CommentServer, number: int | None, body: dict, update: str) -> None:
        if number not in owner.comments:
            self._answer(404, {"message": "Not Found"})
        elif not owner.may_write:
            self._answer(403, {"message": "Resource not accessible by integration"})
        elif self.command == update:
            owner.comments[number]["body"] = body["body"]
            self._answer(200, owner.comments[number])
        elif self.command == "DELETE":
            del owner.comments[number]
            self._answer(204)
        else:
            self._answer(405, {"message": "Method Not Allowed"})

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815 - the standard library's names

    def log_message(self, *_: object) -> None:
        """Silent."""
