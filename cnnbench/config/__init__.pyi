from . import code
from .code import fingerprint
from .components import is_tracker, with_keywords
from .composition import (
    as_values,
    as_yaml,
    axes,
    check_config,
    compose,
    files_unchanged,
    friendly,
    from_here,
    intervals,
    named_config,
    plain_config,
    run_spec,
    select_keys,
    spec_from,
    typed_values,
    unresolved,
)
from .groups import CONF_DIR, options, run_keys
from .messages import validated
from .origins import explain, keywords
from .overrides import combinations, has_key, is_excluded, override, quoted, value_of, with_values
from .plugins import (
    refuse_links,
    remember,
    require_own,
    require_own_cache,
    without_strange_cache,
)
from .record import written_config

__all__ = [
    "CONF_DIR",
    "as_values",
    "as_yaml",
    "axes",
    "check_config",
    "code",
    "combinations",
    "compose",
    "explain",
    "files_unchanged",
    "fingerprint",
    "friendly",
    "from_here",
    "has_key",
    "intervals",
    "is_excluded",
    "is_tracker",
    "keywords",
    "named_config",
    "options",
    "override",
    "plain_config",
    "quoted",
    "refuse_links",
    "remember",
    "require_own",
    "require_own_cache",
    "run_keys",
    "run_spec",
    "select_keys",
    "spec_from",
    "typed_values",
    "unresolved",
    "validated",
    "value_of",
    "with_keywords",
    "with_values",
    "without_strange_cache",
    "written_config",
]
