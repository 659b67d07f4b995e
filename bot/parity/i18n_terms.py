"""Terms in exported headers and types, in the languages that TradingView supports, and its special characters.

A missing language costs nothing for chart data (its header is always English) and little for lists of trades, whose
columns are detected by content.
"""
# ruff: noqa: RUF001 -- letters of other alphabets and typographic signs are what this module is about

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TIME: Final = _words(
    """time date datetime timestamp zeit datum fecha temps tempo data zaman
    время дата 时间 時間 日時 시간"""
)
OPEN: Final = _words(
    """open eröffnung eroeffnung apertura abertura ouverture otwarcie açılış
    открытие откр 开盘 開盤 始値 시가"""
)
HIGH: Final = _words("high hoch max máximo maximo haut maks yüksek максимум макс 最高 高値 고가")
LOW: Final = _words("low tief min mínimo minimo bas düşük минимум мин 最低 安値 저가")
CLOSE: Final = _words(
    """close schluss schlusskurs cierre fechamento clôture cloture zamknięcie kapanış chiusura
    закрытие закр 收盘 收盤 終値 종가"""
)
VOLUME: Final = _words("volume vol volumen hacim wolumen объём объем 成交量 出来高 거래량")

EXIT: Final = _words(
    """exit closeentry ausstieg schließ schliess salida cierre saída saida fechamento sortie uscita wyjście çıkış
    выход 出场 出場 平仓 平倉 決済 청산"""
)
ENTRY: Final = _words(
    """entry einstieg eröffn entrada entrée entree ingresso entrata wejście giriş
    вход 进场 進場 入场 入場 エントリー 진입"""
)
LONG: Final = _words("long largo longa uzun длин лонг 多 ロング 롱 매수")
SHORT: Final = _words("short corto curto court leerverkauf kısa корот кратк шорт 空 ショート 숏 매도")
STILL_OPEN: Final = _words(
    """open offen abierto abierta aberto ouvert açık otwarta
    открыта открыт 未平仓 未平倉 オープン"""
)
PRICE: Final = _words("price preis kurs precio preço preco prix prezzo cena fiyat цена 价格 價格 価格 가격")
PROFIT: Final = _words(
    """profit p&l pnl gewinn guv ganancia beneficio lucro bénéfice profitto kâr zysk
    прибыль 盈利 獲利 获利 損益 损益 수익"""
)

EMPTY: Final = _words("- – — − nan na n/a none null ∅ #n/a") | {""}
MINUS: Final = dict.fromkeys(map(ord, "−–—\u2011"), "-")
SPACES: Final = dict.fromkeys(map(ord, "\u00a0\u202f\u2009\u2007 '’_"))
