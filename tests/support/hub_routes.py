"""The routes of a Hub: one function for each, from a call to an answer. Sockets and faults are not their matter."""

import base64
import json
import re
import time
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import yaml
from hub_http import Answer, Call, Routes, as_json
from hub_store import MAIN, Blob, Commit, HubError, Pull, card, is_lfs

ROUTES = Routes()
route = ROUTES.add
R = "/api/datasets/{repo}"


def iso(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


# Account and datasets


@route("whoami", "GET", "/api/whoami-v2")
def whoami(call: Call) -> Answer:
    account = call.account
    if account is None:
        raise HubError(401, "Invalid username or password.")
    token = {"displayName": "test", "role": account.role}
    return as_json(
        {
            "type": "user",
            "name": account.name,
            "fullname": account.name.title(),
            "email": f"{account.name}@example.com",
            "orgs": [{"type": "org", "name": org, "roleInOrg": "write"} for org in account.orgs],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


def named(call: Call) -> str:
    """The id of the dataset that a body names, if the caller may write there."""
    body = call.json()
    if body.get("type", "model") != "dataset":
        raise HubError(400, "This Hub holds datasets only")
    account = call.hub.store.allow(call.account, body.get("organization") or (call.account and call.account.name))
    return f"{body.get('organization') or account.name}/{body['name']}"


def is_private(body: dict[str, Any]) -> bool:
    """Clients before 1.0 say `private`, later ones `visibility`."""
    return body.get("visibility") == "private" or bool(body.get("private"))


@route("create", "POST", "/api/repos/create")
def create(call: Call) -> Answer:
    id = named(call)
    url = f"{call.hub.url}/datasets/{id}"
    try:
        call.hub.store.create(id, private=is_private(call.json()))
    except HubError as error:
        error.body["url"] = url
        raise
    return as_json({"url": url, "name": id})


@route("delete", "DELETE", "/api/repos/delete")
def delete(call: Call) -> Answer:
    id = named(call)
    call.hub.store.visible(id, call.account)
    del call.hub.store.repos[id]
    return as_json({})


@route("settings", "PUT", R + "/settings", "write")
def settings(call: Call) -> Answer:
    body = call.json()
    if "visibility" in body or "private" in body:
        call.repo.private = is_private(body)
    call.repo.gated = body.get("gated", call.repo.gated)
    return as_json({"private": call.repo.private, "gated": call.repo.gated})


@route("auth-check", "GET", R + "/auth-check", "read")
@route("auth-check", "GET", R + "/auth-check/write", "write")
def auth_check(call: Call) -> Answer:
    return as_json({})


@route("harnesses", "GET", "/api/agent-harnesses")
def harnesses(call: Call) -> Answer:
    """Clients ask once a day which programs may be calling them; none that we know of."""
    return as_json({"standardEnvVars": [], "harnesses": {}})


@route("validate-yaml", "POST", "/api/validate-yaml")
def validate_yaml(call: Call) -> Answer:
    errors, warnings = [], []
    try:
        metadata = card(call.json()["content"].encode())
        if metadata is None:
            warnings.append({"message": "empty or missing yaml metadata in repo card"})
        elif not isinstance(metadata, dict):
            errors.append({"message": "The metadata must be a mapping"})
    except yaml.YAMLError as error:
        errors.append({"message": str(error)})
    return as_json({"errors": errors, "warnings": warnings}, 400 if errors else 200)


# What is in a dataset


def entry(path: str, blob: Blob) -> dict[str, Any]:
    """A file, as listings show it."""
    shown: dict[str, Any] = {"type": "file", "path": path, "size": blob.size, "oid": blob.oid}
    if blob.lfs:
        shown["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
    if blob.xet_hash:
        shown["xetHash"] = blob.xet_hash
    return shown


def entries(commit: Commit) -> list[dict[str, Any]]:
    """Everything in a commit."""
    folders = commit.folders().items()
    shown = [{"type": "directory", "path": path, "oid": oid, "size": 0} for path, oid in folders]
    shown += [entry(path, blob) for path, blob in commit.files.items()]
    return sorted(shown, key=lambda each: each["path"])


def paged(call: Call, items: list[Any]) -> Answer:
    """One page, with a link to the next."""
    start, size = int(call.query.get("cursor", 0)), int(call.query.get("limit", call.hub.page_size))
    more = start + size < len(items)
    query = urlencode(call.query | {"cursor": start + size})
    link = {"Link": f'<{call.hub.url}{call.path}?{query}>; rel="next"'} if more else {}
    return as_json(items[start : start + size], **link)


def metadata(readme: bytes) -> dict[str, Any]:
    """What a README says of itself, nothing where that cannot be read."""
    try:
        return card(readme) or {}
    except yaml.YAMLError:
        return {}


@route("revision", "GET", R + "/revision/{rev}", "see")
@route("info", "GET", R, "see")
def info(call: Call) -> Answer:
    repo, blobs = call.repo, call.query.get("blobs") == "true"
    commit = repo.resolve(call.parts.get("rev", "main"))
    siblings = []
    for path, blob in commit.files.items():
        detail: dict[str, Any] = {"size": blob.size, "blobId": blob.oid} if blobs else {}
        if blobs and blob.lfs:
            detail["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
        siblings.append({"rfilename": path, **detail})
    first = list(commit.history())[-1]
    document = {
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit.id,
        "lastModified": iso(commit.date),
        "createdAt": iso(first.date),
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
    }
    if "README.md" in commit.files:
        document["cardData"] = metadata(commit.files["README.md"].content)
    return as_json(document)


@route("tree", "GET", R + "/tree/{rev}", "see")
@route("tree", "GET", R + "/tree/{rev}/{path}", "see")
def tree(call: Call) -> Answer:
    commit, folder = call.commit(), call.parts.get("path", "").rstrip("/")
    prefix = f"{folder}/" if folder else ""
    shown = [each for each in entries(commit) if each["path"].startswith(prefix)]
    if folder and not shown:
        raise commit.missing()
    if call.query.get("recursive") != "true":
        shown = [each for each in shown if "/" not in each["path"].removeprefix(prefix)]
    return paged(call, shown)


@route("paths-info", "POST", R + "/paths-info/{rev}", "see")
def paths_info(call: Call) -> Answer:
    wanted = parse_qs(call.body.decode()).get("paths", [])
    return as_json([each for each in entries(call.commit()) if each["path"] in wanted])


@route("commits", "GET", R + "/commits/{rev}", "see")
def commits(call: Call) -> Answer:
    shown = []
    for commit in call.commit().history():
        text = {"title": commit.title, "message": commit.message}
        shown.append({"id": commit.id, **text, "date": iso(commit.date), "authors": [{"user": commit.author}]})
    return paged(call, shown)


# References


@route("refs", "GET", R + "/refs", "see")
def refs(call: Call) -> Answer:
    def under(prefix: str) -> list[dict[str, str]]:
        found = [(ref, commit.id) for ref, commit in call.repo.refs.items() if ref.startswith(prefix)]
        return [{"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": id} for ref, id in found]

    document = {"branches": under("refs/heads/"), "converts": [], "tags": under("refs/tags/")}
    if "include_prs" in call.query:
        document["pullRequests"] = under("refs/pr/")
    return as_json(document)


def add_ref(call: Call, ref: str, commit: Commit) -> Answer:
    if ref in call.repo.refs:
        raise HubError(409, f"Reference {ref} already exists")
    call.repo.refs[ref] = commit
    return as_json({})


def drop_ref(call: Call, ref: str) -> Answer:
    if ref == MAIN:
        raise HubError(403, "Branch main is protected")
    del call.repo.refs[call.repo.ref(ref)]
    return as_json({})


@route("tag", "POST", R + "/tag/{rev}", "write")
def add_tag(call: Call) -> Answer:
    return add_ref(call, f"refs/tags/{call.json()['tag']}", call.commit())


@route("tag", "DELETE", R + "/tag/{name}", "write")
def drop_tag(call: Call) -> Answer:
    return drop_ref(call, f"refs/tags/{call.parts['name']}")


@route("branch", "POST", R + "/branch/{name}", "write")
def add_branch(call: Call) -> Answer:
    start = call.json().get("startingPoint", "main")
    return add_ref(call, f"refs/heads/{call.parts['name']}", call.repo.resolve(start))


@route("branch", "DELETE", R + "/branch/{name}", "write")
def drop_branch(call: Call) -> Answer:
    return drop_ref(call, f"refs/heads/{call.parts['name']}")


# Uploading


@route("preupload", "POST", R + "/preupload/{rev}", "propose")
def preupload(call: Call) -> Answer:
    present, answers = call.commit().files, []
    for file in call.json()["files"]:
        sample = base64.b64decode(file.get("sample", ""))
        lfs = is_lfs(file["path"], file["size"], sample, call.hub.regular_limit)
        known = {"oid": present[file["path"]].etag} if file["path"] in present else {}
        mode = {"uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
        answers.append({"path": file["path"], **mode, **known})
    return as_json({"files": answers})


@route("lfs-batch", "POST", "/datasets/{repo}.git/info/lfs/objects/batch", "see")
def lfs_batch(call: Call) -> Answer:
    call.hub.store.allow(call.account, call.account.name if call.account else "")
    objects = []
    for asked in call.json()["objects"]:
        answer = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in call.repo.uploads:
            upload = {"href": f"{call.hub.files_url}/lfs/{call.repo.id}/{asked['oid']}", "header": {}}
            answer["actions"] = {"upload": upload, "verify": {"href": f"{call.page}.git/info/lfs/verify"}}
        objects.append(answer)
    return as_json({"transfer": "basic", "objects": objects})


@route("lfs-put", "PUT", "/lfs/{repo}/{oid}", "link")
def lfs_put(call: Call) -> Answer:
    blob = Blob(call.body, lfs=True)
    if blob.sha256 != call.parts["oid"]:
        raise HubError(400, f"The content's sha256 is {blob.sha256}, not {call.parts['oid']}")
    call.repo.uploads[blob.sha256] = blob
    return Answer()


@route("lfs-get", "GET HEAD", "/lfs/{repo}/{oid}", "link")
def lfs_get(call: Call) -> Answer:
    blob = call.repo.uploads.get(call.parts["oid"])
    if blob is None:
        raise HubError(404, "Not found")
    return ranged(call, blob.content, {"ETag": f'"{blob.etag}"'})


@route("lfs-verify", "POST", "/datasets/{repo}.git/info/lfs/verify", "see")
def lfs_verify(call: Call) -> Answer:
    claimed = call.json()
    blob = call.repo.uploads.get(claimed["oid"])
    if blob is None or blob.size != claimed["size"]:
        raise HubError(422, f"No object {claimed['oid']} of {claimed['size']} bytes was uploaded")
    return as_json({})


def changes(call: Call, operations: list[dict[str, Any]]) -> dict[str, Blob | None]:
    """What the lines of a commit ask for: path -> content, or None to delete it."""
    wanted: dict[str, Blob | None] = {}
    for operation in operations:
        value = operation["value"]
        if operation["key"] == "file":
            wanted[value["path"]] = Blob(base64.b64decode(value["content"]))
        elif operation["key"] == "lfsFile":
            wanted[value["path"]] = call.hub.uploaded(call.repo, value["oid"])
        elif operation["key"] in ("deletedFile", "deletedFolder"):
            wanted[value["path"]] = None
        else:
            raise HubError(400, f"Unknown operation {operation['key']!r}")
    return wanted


@route("commit", "POST", R + "/commit/{rev}", "propose")
def commit(call: Call) -> Answer:
    header, *operations = (json.loads(line) for line in call.body.splitlines())
    if header["key"] != "header":
        raise HubError(400, "The first line must be the header")
    asked = {
        "changes": changes(call, operations),
        "title": header["value"]["summary"],
        "message": header["value"].get("description", ""),
        "author": call.account and call.account.name,
        "revision": call.parts["rev"],
        "parent": header["value"].get("parentCommit"),
    }
    document: dict[str, Any] = {"success": True}
    if call.query.get("create_pr") == "1":
        pull = call.repo.open_pull(**asked)
        made = call.repo.refs[pull.ref]
        document["pullRequestUrl"] = f"{call.page}/discussions/{pull.num}"
    else:
        made = call.repo.commit(**asked)
    return as_json(document | {"commitOid": made.id, "commitUrl": f"{call.page}/commit/{made.id}"})


# Pull requests


def shown(call: Call, pull: Pull) -> dict[str, Any]:
    return {
        "num": pull.num,
        "title": pull.title,
        "author": {"name": pull.author},
        "createdAt": iso(pull.created),
        "status": pull.status,
        "isPullRequest": True,
        "repo": {"name": call.repo.id, "type": "dataset"},
    }


def numbered(call: Call) -> Pull:
    num = call.parts["num"]
    if not num.isdigit() or int(num) not in call.repo.pulls:
        raise HubError(404, f"No discussion {num}")
    return call.repo.pulls[int(num)]


@route("discussions", "GET", R + "/discussions", "see")
def discussions(call: Call) -> Answer:
    pulls = [shown(call, pull) for pull in call.repo.pulls.values()]
    return as_json({"discussions": pulls, "count": len(pulls), "start": 0})


@route("discussions", "POST", R + "/discussions", "see")
def open_discussion(call: Call) -> Answer:
    account = call.hub.store.allow(call.account, call.account.name if call.account else "")
    if not call.json().get("pullRequest"):
        raise HubError(400, "This Hub holds pull requests only")
    return as_json({"num": call.repo.open_pull({}, call.json()["title"], author=account.name).num})


@route("discussions", "GET", R + "/discussions/{num}", "see")
def discussion(call: Call) -> Answer:
    pull = numbered(call)
    merged = {"mergeCommitId": pull.merged_as} if pull.merged_as else {}
    detail = {"changes": {"base": MAIN, **merged}, "filesWithConflicts": [], "events": [], "diff": ""}
    return as_json(shown(call, pull) | detail)


@route("merge", "POST", R + "/discussions/{num}/merge", "write")
def merge(call: Call) -> Answer:
    call.repo.merge(numbered(call), call.account.name)
    return as_json({})


@route("discussions", "POST", R + "/discussions/{num}/status", "write")
def set_status(call: Call) -> Answer:
    pull = numbered(call)
    pull.status = call.json()["status"]
    event = {"id": "1", "type": "status-change", "createdAt": iso(pull.created), "data": {"status": pull.status}}
    return as_json({"newStatus": event | {"author": {"name": call.account.name}}})


# Downloading


def ranged(call: Call, content: bytes, headers: dict[str, str]) -> Answer:
    """The content, or the part that a Range header asks for."""
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("Range", ""))
    if found is None or found.groups() == ("", ""):
        return Answer(content, HTTPStatus.OK, headers)
    first, last, size = *found.groups(), len(content)
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        headers["Content-Range"] = f"bytes */{size}"
        return Answer(b"", HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Answer(content[start:stop], HTTPStatus.PARTIAL_CONTENT, headers)


@route("resolve", "GET HEAD", "/datasets/{repo}/resolve/{rev}/{path}", "read")
def resolve(call: Call) -> Answer:
    commit = call.commit()
    blob = commit.file(call.parts["path"])
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{blob.etag}"'}
    if blob.lfs:
        headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(blob.size)}
    if blob.xet_hash:
        auth = f"{call.api}/xet-read-token/{quote(commit.id)}"
        headers |= {"X-Xet-Hash": blob.xet_hash, "Link": f'<{auth}>; rel="xet-auth"'}
    if blob.lfs and call.hub.cdn:
        headers["Location"] = f"{call.hub.files_url}/lfs/{call.repo.id}/{blob.sha256}"
        return Answer(b"", HTTPStatus.FOUND, headers)
    return ranged(call, blob.content, headers)


# xet


@route("xet-read-token", "GET", R + "/xet-read-token/{rev}", "read")
@route("xet-write-token", "GET", R + "/xet-write-token/{rev}", "propose")
def xet_token(call: Call) -> Answer:
    if call.hub.xet is None:
        raise HubError(404, "Sorry, we can't find the page you are looking for.")
    cas, token, expires = f"local://{call.hub.xet.folder}", "xet-token", int(time.time()) + 3600
    headers = {"X-Xet-Cas-Url": cas, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expires)}
    return as_json({"casUrl": cas, "accessToken": token, "exp": expires}, **headers)
