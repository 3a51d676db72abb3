# Types of the public names of `fedspeech`; `__init__.py` loads each when it is first asked for.

from collections.abc import Mapping

from fedspeech.aggregation.early_stopping import EarlyStopping as EarlyStopping
from fedspeech.aggregation.optimizers import FedOpt as FedOpt
from fedspeech.corpora.recorded import RecordedCorpus as Corpus
from fedspeech.errors import AlreadyReleased as AlreadyReleased
from fedspeech.errors import ArgumentRefused as ArgumentRefused
from fedspeech.errors import BudgetExhausted as BudgetExhausted
from fedspeech.errors import CorpusError as CorpusError
from fedspeech.errors import ExportRefused as ExportRefused
from fedspeech.errors import FedspeechError as FedspeechError
from fedspeech.errors import NoRoundRan as NoRoundRan
from fedspeech.errors import ScenarioError as ScenarioError
from fedspeech.errors import UpdateRefused as UpdateRefused
from fedspeech.models.adapters.adapter import Adapter as Adapter
from fedspeech.models.adapters.checking import check_adapter as check_adapter
from fedspeech.models.base import Base as Base
from fedspeech.models.lora_settings import LoraSettings as LoraSettings
from fedspeech.privacy.factorization import Factorization as Factorization
from fedspeech.privacy.plan import PrivacyPlan as PrivacyPlan
from fedspeech.rollout.plan import RolloutPlan as RolloutPlan
from fedspeech.tasks.asr import Asr as Asr
from fedspeech.tasks.kws import Kws as Kws
from fedspeech.training.settings import LocalTraining as LocalTraining
from simulations.analytics.answer import Analysis as Analysis
from simulations.api.access import share_destroy as share_destroy
from simulations.api.access import share_log as share_log
from simulations.api.access import share_pseudonymize as share_pseudonymize
from simulations.api.access import share_read as share_read
from simulations.api.analytics import analyze as analyze
from simulations.api.analytics import load_analysis as load_analysis
from simulations.api.analytics import resume_analysis as resume_analysis
from simulations.api.anonymizing import Anonymized as Anonymized
from simulations.api.anonymizing import anonymize as anonymize
from simulations.api.auditing import Audit as Audit
from simulations.api.auditing import audit as audit
from simulations.api.budget import Budget as Budget
from simulations.api.budget import budget as budget
from simulations.api.corpora import check_folder as check_folder
from simulations.api.corpora import known_corpora as known_corpora
from simulations.api.corpora import open_corpus as open_corpus
from simulations.api.deployment import deployment_keys as deployment_keys
from simulations.api.deployment import prepare as prepare
from simulations.api.doctor import doctor as doctor
from simulations.api.evidence import evidence as evidence
from simulations.api.exporting import benchmark as benchmark
from simulations.api.exporting import compare_kinds as compare_kinds
from simulations.api.exporting import dry_run_round as dry_run_round
from simulations.api.exporting import evaluate_listening as evaluate_listening
from simulations.api.exporting import export as export
from simulations.api.exporting import listen as listen
from simulations.api.exporting import verify as verify
from simulations.api.jingles import find_jingles as find_jingles
from simulations.api.ledger import ledger as ledger
from simulations.api.mitigating import mitigate as mitigate
from simulations.api.over_the_air import ota_apply as ota_apply
from simulations.api.over_the_air import ota_confirm as ota_confirm
from simulations.api.over_the_air import ota_enroll as ota_enroll
from simulations.api.over_the_air import ota_keys as ota_keys
from simulations.api.over_the_air import ota_make as ota_make
from simulations.api.over_the_air import ota_rollback as ota_rollback
from simulations.api.over_the_air import ota_rotate as ota_rotate
from simulations.api.over_the_air import ota_verify as ota_verify
from simulations.api.personalizing import personalize as personalize
from simulations.api.phone import phone_show as phone_show
from simulations.api.pretraining import pretrain as pretrain
from simulations.api.records import Records as Records
from simulations.api.redacting import redact as redact
from simulations.api.redacting import redact_lines as redact_lines
from simulations.api.registry import registry as registry
from simulations.api.registry import registry_latest as registry_latest
from simulations.api.registry import registry_publish as registry_publish
from simulations.api.registry import registry_rotate as registry_rotate
from simulations.api.rollout import rollout_forecast as rollout_forecast
from simulations.api.rollout import rollout_hear as rollout_hear
from simulations.api.rollout import rollout_look as rollout_look
from simulations.api.rollout import rollout_page as rollout_page
from simulations.api.rollout import rollout_pause as rollout_pause
from simulations.api.rollout import rollout_promote as rollout_promote
from simulations.api.rollout import rollout_resume as rollout_resume
from simulations.api.rollout import rollout_rollback as rollout_rollback
from simulations.api.rollout import rollout_simulate as rollout_simulate
from simulations.api.rollout import rollout_start as rollout_start
from simulations.api.rollout import rollout_statement as rollout_statement
from simulations.api.rollout import rollout_status as rollout_status
from simulations.api.run import Run as Run
from simulations.api.run import compare as compare
from simulations.api.run import load_run as load_run
from simulations.api.run import resume as resume
from simulations.api.run import simulate as simulate
from simulations.api.scenarios import read_scenario as read_scenario
from simulations.api.scenarios import scenarios as scenarios
from simulations.api.scenarios import to_toml as to_toml
from simulations.api.secagg import secagg_cost as secagg_cost
from simulations.api.sharing import share as share
from simulations.api.sharing import share_check as share_check
from simulations.api.sharing import share_recheck as share_recheck
from simulations.api.tokens import TokenReport as TokenReport
from simulations.api.tokens import tokens_decode as tokens_decode
from simulations.api.tokens import tokens_encode as tokens_encode
from simulations.api.tokens import tokens_train as tokens_train
from simulations.api.tuning import Tuned as Tuned
from simulations.api.tuning import tune as tune
from simulations.api.voice_privacy import VoicePrivacy as VoicePrivacy
from simulations.api.voice_privacy import voice_privacy as voice_privacy
from simulations.api.voice_privacy import voice_privacy_file as voice_privacy_file
from simulations.api.voice_privacy import voice_privacy_metrics as voice_privacy_metrics
from simulations.artifacts.exporting import PartlyRefused as PartlyRefused
from simulations.callbacks.callback import Callback as Callback
from simulations.callbacks.csv_file import CsvLogger as CsvLogger
from simulations.callbacks.mlflow import MLflowLogger as MLflowLogger
from simulations.callbacks.tensorboard import TensorBoardLogger as TensorBoardLogger
from simulations.callbacks.wandb import WandbLogger as WandbLogger
from simulations.scenario.corpora import EmbeddedCorpus as EmbeddedCorpus
from simulations.scenario.schema import Scenario as Scenario
from simulations.setup.definition import Experiment as Experiment

__all__ = [
    "Adapter",
    "AlreadyReleased",
    "Analysis",
    "Anonymized",
    "ArgumentRefused",
    "Asr",
    "Audit",
    "Base",
    "Budget",
    "BudgetExhausted",
    "Callback",
    "Corpus",
    "CorpusError",
    "CsvLogger",
    "EarlyStopping",
    "EmbeddedCorpus",
    "Experiment",
    "ExportRefused",
    "Factorization",
    "FedOpt",
    "FedspeechError",
    "Kws",
    "LocalTraining",
    "LoraSettings",
    "MLflowLogger",
    "NoRoundRan",
    "PartlyRefused",
    "PrivacyPlan",
    "Records",
    "RolloutPlan",
    "Run",
    "Scenario",
    "ScenarioError",
    "TensorBoardLogger",
    "TokenReport",
    "Tuned",
    "UpdateRefused",
    "VoicePrivacy",
    "WandbLogger",
    "analyze",
    "anonymize",
    "audit",
    "benchmark",
    "budget",
    "check_adapter",
    "check_folder",
    "compare",
    "compare_kinds",
    "deployment_keys",
    "doctor",
    "dry_run_round",
    "evaluate_listening",
    "evidence",
    "export",
    "find_jingles",
    "known_corpora",
    "ledger",
    "listen",
    "load_analysis",
    "load_run",
    "mitigate",
    "open_corpus",
    "ota_apply",
    "ota_confirm",
    "ota_enroll",
    "ota_keys",
    "ota_make",
    "ota_rollback",
    "ota_rotate",
    "ota_verify",
    "personalize",
    "phone_show",
    "prepare",
    "pretrain",
    "read_scenario",
    "redact",
    "redact_lines",
    "registry",
    "registry_latest",
    "registry_publish",
    "registry_rotate",
    "resume",
    "resume_analysis",
    "rollout_forecast",
    "rollout_hear",
    "rollout_look",
    "rollout_page",
    "rollout_pause",
    "rollout_promote",
    "rollout_resume",
    "rollout_rollback",
    "rollout_simulate",
    "rollout_start",
    "rollout_statement",
    "rollout_status",
    "scenarios",
    "secagg_cost",
    "share",
    "share_check",
    "share_destroy",
    "share_log",
    "share_pseudonymize",
    "share_read",
    "share_recheck",
    "simulate",
    "to_toml",
    "tokens_decode",
    "tokens_encode",
    "tokens_train",
    "tune",
    "verify",
    "voice_privacy",
    "voice_privacy_file",
    "voice_privacy_metrics",
]
PUBLIC: Mapping[str, str]
__version__: str
