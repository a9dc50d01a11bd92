from . import code
from .code import fingerprint
from .composition import (
    as_values,
    axes,
    check_config,
    compose,
    forget_other_launchers,
    friendly,
    intervals,
    named_config,
    plain_config,
    refuse_hydra_settings,
    run_spec,
    select_keys,
    spec_from,
    typed_values,
)
from .groups import CONF_DIR, options
from .messages import validated
from .origins import explain
from .overrides import combinations, has_key, is_excluded, override, quoted, value_of, with_values
from .plugins import refuse_links, remember, require_own

__all__ = [
    "CONF_DIR",
    "as_values",
    "axes",
    "check_config",
    "code",
    "combinations",
    "compose",
    "explain",
    "fingerprint",
    "forget_other_launchers",
    "friendly",
    "has_key",
    "intervals",
    "is_excluded",
    "named_config",
    "options",
    "override",
    "plain_config",
    "quoted",
    "refuse_hydra_settings",
    "refuse_links",
    "remember",
    "require_own",
    "run_spec",
    "select_keys",
    "spec_from",
    "typed_values",
    "validated",
    "value_of",
    "with_values",
]
