"""`python -m runner store …`; the code of an action is imported when it runs."""

import argparse
import os
import re
from pathlib import Path

from runner.errors import StoreError


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to `python -m runner`."""
    store = commands.add_parser(
        "store", help="`store init|use|verify|backup|…`: set up and maintain the store (STORE_URI)"
    )
    store.set_defaults(run=run)
    actions = store.add_subparsers(dest="action", required=True)
    init = actions.add_parser("init", help="make the bucket, expiry and users; test what the endpoint can do")
    init.add_argument(
        "--captures-days",
        action="append",
        default=[],
        metavar="[ENVIRONMENT=]N",
        help="captures expire (default: 90), those of an environment earlier; may be given several times",
    )
    init.add_argument(
        "--versions-days", type=int, default=30, metavar="N", help="replaced objects expire (default: 30)"
    )
    actions.add_parser("use", help="set DVC's remote to the store")
    verify = actions.add_parser("verify", help="hash every object whose digest is known, and check signatures")
    verify.add_argument("--restore", action="store_true", help="bring back earlier versions of what was overwritten")
    purge = actions.add_parser("purge", help="empty DVC's run cache, so that no result of a bad commit is reused")
    purge.add_argument(
        "--since", metavar="TIME", help="remove only the results pushed since, such as 2026-11-30T12:00+00:00"
    )
    backup = actions.add_parser("backup", help="copy what changed to the second store, BACKUP_STORE_URI")
    backup.add_argument("--check", action="store_true", help="hash the newest backup instead")
    restore = actions.add_parser("restore", help="copy the objects of a backup that the store lacks back into it")
    restore.add_argument(
        "--from",
        dest="begins",
        metavar="TIME",
        help="first characters of the backup's time, such as 2026-11-30T02 (default: RESTORE_FROM, else newest)",
    )
    for action, folder_text in (
        (backup, "copy this folder's files instead of the store's objects"),
        (restore, "copy the files back into this folder instead of the store"),
    ):
        action.add_argument("--name", default="store", help="name of the backup (default: store)")
        action.add_argument("--folder", type=Path, help=folder_text)
    gc = actions.add_parser(
        "gc", help="count or remove unused objects: DVC's old results, killed publishes, pictures of no dataset"
    )
    gc.add_argument("--days", type=int, default=30, metavar="N", help="only what is older than N days (default: 30)")
    gc.add_argument("--remove", action="store_true", help="remove it, as administrator (default: count it)")
    prune = actions.add_parser(
        "prune", help="count or remove old backups in the second store; the last of each month stays"
    )
    prune.add_argument("--days", type=int, default=30, metavar="N", help="only older than N days (default: 30)")
    prune.add_argument("--remove", action="store_true", help="remove them, as its administrator (default: count them)")
    move = actions.add_parser(
        "move", help="copy another store, OLD_STORE_URI, into this one; run it again to copy what changed"
    )
    move.add_argument("--check", action="store_true", help="copy nothing, list what differs")
    policy = actions.add_parser("policy", help="print what a user may do, for endpoints that are not MinIO")
    policy.add_argument("user", help="runner | trainer | publisher | backup | server-dev | …")


def parse_days(given: list[str]) -> dict[str, int]:
    """Return environment → days, "" for all others, of `N` and `ENVIRONMENT=N`; StoreError: neither."""
    found = [re.fullmatch(r"(?:([a-z0-9][a-z0-9-]*)=)?(\d{1,5})", text) for text in given]
    if None in found:
        raise StoreError(f"--captures-days {given[found.index(None)]}: expected days, such as 90, or prod=30")
    return {each[1] or "": int(each[2]) for each in found if each}


def run(given: argparse.Namespace) -> int:
    """Run an action; return its exit status."""
    from runner.store import open_store

    if given.action == "init":
        from runner.store.init import init_store

        days = parse_days(given.captures_days)
        print(init_store(Path.cwd(), captures_days=days, versions_days=given.versions_days))
    elif given.action == "use":
        from runner.store.use import use_store

        print(use_store(Path.cwd()))
    elif given.action == "policy":
        from runner.store.users import policy_text

        print(policy_text(given.user, open_store(Path.cwd()).uri))
    elif given.action == "purge":
        from runner.store.purge import purge_run_cache

        print(purge_run_cache(open_store(Path.cwd()), given.since))
    elif given.action in ("backup", "restore"):
        from runner.store.backup import NEWEST, back_up, check_backup, open_backup, restore

        store = open_store(Path.cwd(), given.folder and str(given.folder.resolve()))
        second = open_backup(Path.cwd())
        if given.action == "restore":
            begins = given.begins or os.environ.get("RESTORE_FROM") or NEWEST
            print(restore(second, store, given.name, begins))
        else:
            print(check_backup(second, given.name) if given.check else back_up(store, second, given.name))
    elif given.action == "gc":
        from runner.store.gc import collect_garbage

        print(collect_garbage(Path.cwd(), open_store(Path.cwd()), days=given.days, remove=given.remove))
    elif given.action == "prune":
        from runner.store.backup import open_backup
        from runner.store.prune import prune_backups

        print(prune_backups(open_backup(Path.cwd()), days=given.days, remove=given.remove))
    elif given.action == "move":
        from runner.store.move import move_store, open_old

        text, well = move_store(open_old(Path.cwd()), open_store(Path.cwd()), check=given.check)
        print(text)
        return 0 if well else 1
    else:
        from runner.store.signatures import signatures_of
        from runner.store.verify import verify_store

        signatures = signatures_of(Path.cwd())
        text, well = verify_store(open_store(Path.cwd()), signatures=signatures, restore=given.restore)
        print(text)
        return 0 if well else 1
    return 0
