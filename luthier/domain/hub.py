"""A folder pushed to a Hugging Face hub, with the token that its own client knows."""

from __future__ import annotations

from pathlib import Path

from luthier.core.errors import Unavailable


def push(folder: Path, repository: str) -> str:
    """Upload a folder to OWNER/NAME, made private if it is new; its address. Errors: `Unavailable`, the hub's words."""
    from huggingface_hub import HfApi  # half a second of imports that few need
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    try:
        where = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        raise Unavailable(f"the hub did not take {folder}: {error}. It stays in the folder; push it again") from error
    return str(where)
