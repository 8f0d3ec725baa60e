"""What tables and figures are called, in English and in the document's Japanese."""

from collections.abc import Mapping
from typing import Literal

Lang = Literal["en", "ja"]
LANGS: tuple[Lang, ...] = ("en", "ja")
JAPANESE_FONTS = (
    "Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "IPAGothic", "TakaoGothic", "VL Gothic", "Hiragino Sans",
    "Yu Gothic", "Meiryo", "MS Gothic",
)  # fmt: skip

_HEADINGS: dict[str, tuple[str, str]] = {
    "samples": ("samples", "サンプル数"),
    "match": ("matched in", "一致させる量"),
    "context": ("contexts", "コンテキスト"),
    "embedding": ("embedding", "埋め込み"),
    "seed": ("seed", "シード"),
    "tokens": ("train tokens", "訓練トークン"),
    "validation_tokens": ("val tokens", "検証トークン"),
    "ppl": ("PPL", "PPL"),
    "fitted": ("fitted PPL", "予測PPL"),
    "error_percent": ("error (%)", "誤差 (%)"),
    "accuracy": ("val accuracy (%)", "検証精度 (%)"),
    "accuracy_se": ("± over samples (%)", "± サンプル間 (%)"),
    "ppl_low": ("95 % from", "95 % 下限"),
    "ppl_high": ("to", "上限"),
    "train_percent": ("train ER (%)", "訓練ER (%)"),
    "validation_percent": ("val ER (%)", "検証ER (%)"),
    "iterations": ("iterations", "反復回数"),
    "converged": ("converged share", "収束率"),
    "contraction": ("contraction an iteration", "反復ごとの縮小率"),
    "pass_contraction": ("contraction a pass", "パスごとの縮小率"),
    "status": ("validation passes", "検証パス"),
    "of": ("contexts of", "対象"),
    "centred": ("mean taken out", "平均を引く"),
    "percent": ("effective rank (%)", "有効ランク (%)"),
    "low": ("95 % from", "95 % 下限"),
    "high": ("to", "上限"),
    "best_epoch": ("best epoch", "最良エポック"),
    "epochs": ("epochs run", "実行エポック"),
    "is_stopped": ("stopped early", "早期停止"),
    "steps": ("steps to best", "最良までのステップ"),
    "steps_all": ("steps in all", "全ステップ"),
    "train_ppl": ("train PPL", "訓練PPL"),
    "memory_gib": ("peak memory (GiB)", "最大メモリ (GiB)"),
    "device": ("device", "デバイス"),
    "statistic": ("statistic", "統計量"),
    "value": ("value", "値"),
    "predicted": ("predicted PPL", "予測PPL"),
    "beyond": ("times the data", "データの倍数"),
    "warning": ("warning", "備考"),
    "exponent": ("exponent α", "指数 α"),
    "num_counts": ("sample counts", "サンプル数の種類"),
    "r_squared": ("R²", "R²"),
    "p_value": ("p-value", "p値"),
    "effect": ("effect", "効果"),
    "verdict": ("verdict", "判定"),
}
_TITLES: dict[str, tuple[str, str]] = {
    "samples_results": ("Results", "実験結果"),
    "samples_regression": ("Power law of the document's kind", "線形回帰分析"),
    "samples_fitted": ("Measured and fitted", "モデルの適合度"),
    "samples_predictions": ("Predictions", "PPL予測表"),
    "samples_arms": ("Exponent by what runs have in common", "条件別の指数"),
    "samples_effects": ("Samples, steps, contexts", "サンプル、ステップ、コンテキスト"),
    "samples_ranks": ("Effective rank", "有効ランク"),
    "samples_stopping": ("Early stopping and memory", "早期停止とメモリ"),
    "samples_document": ("The document's four points: regression", "文書の4点: 回帰"),
    "samples_document_fitted": ("The document's four points: measured and fitted", "文書の4点: 適合度"),
    "samples_document_predictions": ("The document's four points: predictions", "文書の4点: 予測"),
    "figure": ("Validation perplexity against train tokens", "検証PPLと訓練トークン"),
    "x": ("train tokens", "訓練トークン"),
    "y": ("validation PPL", "検証PPL"),
    "alpha": ("exponent α, 95 %", "指数 α、95 %"),
    "law": ("law, 95 % of its line", "回帰直線と95 %信頼帯"),
    "epochs": ("matched in epochs", "エポック一致"),
    "steps": ("matched in steps", "ステップ一致"),
    "tokens": ("matched in tokens", "トークン一致"),
    "random": ("random contexts", "ランダムなコンテキスト"),
    "none": ("no contexts", "コンテキストなし"),
}


def headings(lang: Lang) -> Mapping[str, str]:
    return {name: words[LANGS.index(lang)] for name, words in _HEADINGS.items()}


def title(name: str, lang: Lang) -> str:
    return _TITLES[name][LANGS.index(lang)]


def require_lang(lang: str) -> None:
    """ValueError for a language that there is not."""
    if lang not in LANGS:
        raise ValueError(f"LANG = {lang!r} is unknown; use {' or '.join(LANGS)}")


def figure_font(lang: Lang) -> str | None:
    """An installed font with the glyphs of the language; None where there is none, and for English."""
    if lang == "en":
        return None
    from matplotlib import font_manager  # only where it is asked for: it reads every font

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in JAPANESE_FONTS if name in installed), None)
