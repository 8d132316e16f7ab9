"""Name -> constructor. A model card names its parts; this is where the names get their meaning.

Modules are imported when a name is used, so that listing names costs nothing.
"""

from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from unclouded.errors import UncloudedError, UsageError, first_problem

if TYPE_CHECKING:
    from unclouded.models.base import RestorationModel
    from unclouded.models.priors.base import Prior

# name -> module:class; every class takes `bands` and its own options
PRIORS = {
    "light": "unclouded.models.priors.light:Light",
    "memorynet": "unclouded.models.priors.memorynet:MemoryNet",
    "msda": "unclouded.models.priors.msda:MSDA",
    "spagan": "unclouded.models.priors.spagan:SPAGAN",
    "amgan": "unclouded.models.priors.amgan:AMGAN",
    "cvae": "unclouded.models.priors.cvae:CVAE",
    "pix2pix": "unclouded.models.priors.pix2pix:Pix2Pix",
}

# method of a model card -> module:class; every class is built from its `Config` (pydantic)
METHODS = {
    "de": "unclouded.models.de:DE",
    "prior": "unclouded.models.end_to_end:EndToEnd",
    "diffcr": "unclouded.models.diffcr:DiffCR",
}


def _look_up(table: dict[str, str], what: str, name: str) -> Any:
    if name not in table:
        raise UsageError(f"There is no {what} named {name!r}. Choose one of: {', '.join(table)}.")
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)


def build_prior(name: str, **options: Any) -> "Prior":
    """The reference prior `name` with fresh weights; `options` are its constructor's (`bands` and its own).

    Raises UsageError for an unknown name, and for an option that the prior does not have or that is of a wrong type.
    """
    from pydantic import BaseModel, ConfigDict, ValidationError, create_model

    constructor = _look_up(PRIORS, "prior", name)
    fields: dict[str, Any] = {
        option.name: (option.annotation, ... if option.default is option.empty else option.default)
        for option in signature(constructor).parameters.values()
    }
    form: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    try:
        checked = form.model_validate(options)
    except ValidationError as error:
        problem = first_problem(error)
        raise UsageError(
            f"The prior {name!r} cannot be built: {problem.where}: {problem.what}. It takes {', '.join(fields)}."
        ) from error
    prior: Prior = constructor(**dict(checked))
    return prior


def build_model(method: str, architecture: dict[str, Any]) -> "RestorationModel":
    """The model that a card describes, with fresh weights; raises UncloudedError if the description does not hold."""
    from pydantic import ValidationError

    constructor = _look_up(METHODS, "method", method)
    remedy = "Use a model file that this version of unclouded can read."
    try:
        config = constructor.Config.model_validate(architecture)
    except ValidationError as error:
        problem = first_problem(error)
        raise UncloudedError(
            f"The architecture of this {method!r} model is not valid: {problem.where}: {problem.what}. {remedy}"
        ) from error
    return construct(constructor, config, remedy)


def construct(constructor: Any, config: Any, remedy: str) -> "RestorationModel":
    """`constructor(config)`; UncloudedError, which ends in `remedy`, where its sizes make no network."""
    try:
        model: RestorationModel = constructor(config)
    except UncloudedError:
        raise
    except Exception as error:  # torch raises many kinds for sizes that do not go together
        what = f"{error}".partition("\n")[0]
        raise UncloudedError(f"A network of these sizes cannot be built ({what}). {remedy}") from error
    return model
