"""Federated on-device personalization for speech.

    import fedspeech as fs

    run = fs.simulate("quick")
    print(run.guarantee)
    run.report()

The public names below are loaded when they are first asked for, so that `import fedspeech` costs
nothing and a phone's side of a deployment, which has neither simulator nor command line, imports
the same package. Types stand in `__init__.pyi`.

The flow of the library, left to right: waveform, features, local dataset, adapter training, delta,
clip, encode, noise, mask, sum, decode, server optimizer, evaluation, export. `fedspeech.round`
tells it in one page.
"""

import difflib
import importlib
import os
from collections.abc import Mapping

__version__ = "0.1.0"

# MKL, which multiplies matrices for torch, lets the last bits of a product depend on the alignment
# of its operands unless it is told otherwise before its first call: on some processors a phone's
# bits then depend on its place in a block. (Intel oneMKL developer guide, "conditional numerical
# reproducibility".) A setting of the user's own is kept.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

PUBLIC: Mapping[str, str] = {
    "Adapter": "fedspeech.models.adapters.adapter:Adapter",
    "AlreadyReleased": "fedspeech.errors:AlreadyReleased",
    "Analysis": "simulations.analytics.answer:Analysis",
    "Anonymized": "simulations.api.anonymizing:Anonymized",
    "ArgumentRefused": "fedspeech.errors:ArgumentRefused",
    "Asr": "fedspeech.tasks.asr:Asr",
    "Audit": "simulations.api.auditing:Audit",
    "Base": "fedspeech.models.base:Base",
    "Budget": "simulations.api.budget:Budget",
    "BudgetExhausted": "fedspeech.errors:BudgetExhausted",
    "Callback": "simulations.callbacks.callback:Callback",
    "Corpus": "fedspeech.corpora.recorded:RecordedCorpus",
    "CorpusError": "fedspeech.errors:CorpusError",
    "CsvLogger": "simulations.callbacks.csv_file:CsvLogger",
    "EarlyStopping": "fedspeech.aggregation.early_stopping:EarlyStopping",
    "EmbeddedCorpus": "simulations.scenario.corpora:EmbeddedCorpus",
    "Experiment": "simulations.setup.definition:Experiment",
    "ExportRefused": "fedspeech.errors:ExportRefused",
    "Factorization": "fedspeech.privacy.factorization:Factorization",
    "FedOpt": "fedspeech.aggregation.optimizers:FedOpt",
    "FedspeechError": "fedspeech.errors:FedspeechError",
    "Kws": "fedspeech.tasks.kws:Kws",
    "LocalTraining": "fedspeech.training.settings:LocalTraining",
    "LoraSettings": "fedspeech.models.lora_settings:LoraSettings",
    "MLflowLogger": "simulations.callbacks.mlflow:MLflowLogger",
    "NoRoundRan": "fedspeech.errors:NoRoundRan",
    "PartlyRefused": "simulations.artifacts.exporting:PartlyRefused",
    "PrivacyPlan": "fedspeech.privacy.plan:PrivacyPlan",
    "Records": "simulations.api.records:Records",
    "RolloutPlan": "fedspeech.rollout.plan:RolloutPlan",
    "Run": "simulations.api.run:Run",
    "Scenario": "simulations.scenario.schema:Scenario",
    "ScenarioError": "fedspeech.errors:ScenarioError",
    "TensorBoardLogger": "simulations.callbacks.tensorboard:TensorBoardLogger",
    "TokenReport": "simulations.api.tokens:TokenReport",
    "Tuned": "simulations.api.tuning:Tuned",
    "UpdateRefused": "fedspeech.errors:UpdateRefused",
    "VoicePrivacy": "simulations.api.voice_privacy:VoicePrivacy",
    "WandbLogger": "simulations.callbacks.wandb:WandbLogger",
    "analyze": "simulations.api.analytics:analyze",
    "anonymize": "simulations.api.anonymizing:anonymize",
    "benchmark": "simulations.api.exporting:benchmark",
    "audit": "simulations.api.auditing:audit",
    "budget": "simulations.api.budget:budget",
    "check_adapter": "fedspeech.models.adapters.checking:check_adapter",
    "check_folder": "simulations.api.corpora:check_folder",
    "compare": "simulations.api.run:compare",
    "compare_kinds": "simulations.api.exporting:compare_kinds",
    "deployment_keys": "simulations.api.deployment:deployment_keys",
    "doctor": "simulations.api.doctor:doctor",
    "dry_run_round": "simulations.api.exporting:dry_run_round",
    "evaluate_listening": "simulations.api.exporting:evaluate_listening",
    "evidence": "simulations.api.evidence:evidence",
    "export": "simulations.api.exporting:export",
    "find_jingles": "simulations.api.jingles:find_jingles",
    "known_corpora": "simulations.api.corpora:known_corpora",
    "ledger": "simulations.api.ledger:ledger",
    "listen": "simulations.api.exporting:listen",
    "load_analysis": "simulations.api.analytics:load_analysis",
    "load_run": "simulations.api.run:load_run",
    "mitigate": "simulations.api.mitigating:mitigate",
    "open_corpus": "simulations.api.corpora:open_corpus",
    "ota_apply": "simulations.api.over_the_air:ota_apply",
    "ota_confirm": "simulations.api.over_the_air:ota_confirm",
    "ota_enroll": "simulations.api.over_the_air:ota_enroll",
    "ota_keys": "simulations.api.over_the_air:ota_keys",
    "ota_make": "simulations.api.over_the_air:ota_make",
    "ota_rollback": "simulations.api.over_the_air:ota_rollback",
    "ota_rotate": "simulations.api.over_the_air:ota_rotate",
    "ota_verify": "simulations.api.over_the_air:ota_verify",
    "personalize": "simulations.api.personalizing:personalize",
    "phone_show": "simulations.api.phone:phone_show",
    "prepare": "simulations.api.deployment:prepare",
    "pretrain": "simulations.api.pretraining:pretrain",
    "read_scenario": "simulations.api.scenarios:read_scenario",
    "redact": "simulations.api.redacting:redact",
    "redact_lines": "simulations.api.redacting:redact_lines",
    "registry": "simulations.api.registry:registry",
    "registry_latest": "simulations.api.registry:registry_latest",
    "registry_publish": "simulations.api.registry:registry_publish",
    "registry_rotate": "simulations.api.registry:registry_rotate",
    "resume": "simulations.api.run:resume",
    "resume_analysis": "simulations.api.analytics:resume_analysis",
    "rollout_forecast": "simulations.api.rollout:rollout_forecast",
    "rollout_hear": "simulations.api.rollout:rollout_hear",
    "rollout_look": "simulations.api.rollout:rollout_look",
    "rollout_page": "simulations.api.rollout:rollout_page",
    "rollout_pause": "simulations.api.rollout:rollout_pause",
    "rollout_promote": "simulations.api.rollout:rollout_promote",
    "rollout_resume": "simulations.api.rollout:rollout_resume",
    "rollout_rollback": "simulations.api.rollout:rollout_rollback",
    "rollout_simulate": "simulations.api.rollout:rollout_simulate",
    "rollout_start": "simulations.api.rollout:rollout_start",
    "rollout_statement": "simulations.api.rollout:rollout_statement",
    "rollout_status": "simulations.api.rollout:rollout_status",
    "scenarios": "simulations.api.scenarios:scenarios",
    "secagg_cost": "simulations.api.secagg:secagg_cost",
    "share": "simulations.api.sharing:share",
    "share_check": "simulations.api.sharing:share_check",
    "share_destroy": "simulations.api.access:share_destroy",
    "share_log": "simulations.api.access:share_log",
    "share_pseudonymize": "simulations.api.access:share_pseudonymize",
    "share_read": "simulations.api.access:share_read",
    "share_recheck": "simulations.api.sharing:share_recheck",
    "simulate": "simulations.api.run:simulate",
    "to_toml": "simulations.api.scenarios:to_toml",
    "tokens_decode": "simulations.api.tokens:tokens_decode",
    "tokens_encode": "simulations.api.tokens:tokens_encode",
    "tokens_train": "simulations.api.tokens:tokens_train",
    "tune": "simulations.api.tuning:tune",
    "verify": "simulations.api.exporting:verify",
    "voice_privacy": "simulations.api.voice_privacy:voice_privacy",
    "voice_privacy_file": "simulations.api.voice_privacy:voice_privacy_file",
    "voice_privacy_metrics": "simulations.api.voice_privacy:voice_privacy_metrics",
}
"""Public name to the place of it, `module:attribute`."""


def __getattr__(name: str) -> object:
    """Loads a public name when it is first asked for (PEP 562)."""
    if name not in PUBLIC:
        near = [] if name.startswith("_") else difflib.get_close_matches(name, PUBLIC, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module 'fedspeech' has no attribute {name!r}{hint}", name=name)
    module, _, attribute = PUBLIC[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, beside what is loaded."""
    return sorted({*globals(), *PUBLIC})
