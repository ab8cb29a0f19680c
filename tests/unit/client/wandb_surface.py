"""The names that programs written for W&B artifacts call, as wandb 0.31.0 has them.

Owns: the list. Does not own: what becomes of each name (the README's table, and its test). Left out is
what is no artifact's business, such as sweeps and media.
"""

from __future__ import annotations

_ARTIFACT = """
add_file add_dir new_file add_reference add finalize artifact[name]=obj remove
wait save is_draft new_draft delete link unlink
download file get_entry get_path get artifact[name] checkout verify files logged_by used_by
id name version type aliases metadata description digest size state manifest qualified_name entity
project tags ttl commit_hash file_count created_at updated_at incremental distributed_id collection url
source_name source_version source_project source_entity source_qualified_name
"""

_ENTRY = "path ref digest size local_path extra download ref_target ref_url"

_MANIFEST = "entries get_entry_by_path get_entries_in_directory"

_RUN = """
log_artifact upsert_artifact finish_artifact use_artifact finish id name project group job_type config
log_model use_model log_code link_artifact link_model log
"""

_API = """
artifact artifacts artifact_exists artifact_collection_exists
artifact_types artifact_type artifact_collections runs run run.logged_artifacts run.used_artifacts
"""

_TABLE = "Table add_data add_column get_column get_dataframe iterrows"

SURFACE = {
    "Artifact": _ARTIFACT.split(),
    "an entry": _ENTRY.split(),
    "a manifest": _MANIFEST.split(),
    "Run": [*_RUN.split(), "with run"],
    "Api": _API.split(),
    "Table": _TABLE.split(),
    "command line": ["put", "get", "ls", "cache cleanup"],
}
