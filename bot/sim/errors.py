"""The exchange's refusals: Binance's error codes with their texts, as one exception that the REST shell turns into a reply.

Codes and meanings are those of Binance's public list of errors (venue notes 2.13). Most come with HTTP 400; keys, limits and
overload have statuses of their own.
"""

from typing import Final

MESSAGES: Final[dict[int, str]] = {
    -1000: "Unknown error, please check your request or try again later.",
    -1003: "Too many requests; current limit is {} requests per minute. Please use the websocket for live updates.",
    -1015: "Too many new orders; current limit is {} orders per {}.",
    -1020: "This operation is not supported.",
    -1021: "Timestamp for this request is outside of the recvWindow.",
    -1022: "Signature for this request is not valid.",
    -1100: "Illegal characters found in parameter '{}'.",
    -1102: "Mandatory parameter '{}' was not sent, was empty/null, or malformed.",
    -1106: "Parameter '{}' sent when not required.",
    -1111: "Precision is over the maximum defined for this asset.",
    -1115: "Invalid timeInForce.",
    -1116: "Invalid orderType.",
    -1117: "Invalid side.",
    -1120: "Invalid interval.",
    -1121: "Invalid symbol.",
    -1125: "This listenKey does not exist.",
    -1128: "Combination of optional parameters invalid.",
    -1130: "Data sent for parameter '{}' is not valid.",
    -2011: "Unknown order sent.",
    -2013: "Order does not exist.",
    -2014: "API-key format invalid.",
    -2015: "Invalid API-key, IP, or permissions for action.",
    -2019: "Margin is insufficient.",
    -2021: "Order would immediately trigger.",
    -2022: "ReduceOnly Order is rejected.",
    -2025: "Reach max open order limit.",
    -2027: "Exceeded the maximum allowable position at current leverage.",
    -4001: "Price less than 0.",
    -4002: "Price greater than max price.",
    -4003: "Quantity less than or equal to zero.",
    -4004: "Quantity less than min quantity.",
    -4005: "Quantity greater than max quantity.",
    -4013: "Price less than min price.",
    -4014: "Price not increased by tick size.",
    -4015: "Client order id is not valid.",
    -4016: "Limit price can't be higher than {}.",
    -4023: "Qty not increased by step size.",
    -4024: "Limit price can't be lower than {}.",
    -4028: "Leverage {} is not valid",
    -4045: "Reach max stop order limit.",
    -4046: "No need to change margin type.",
    -4047: "Margin type cannot be changed if there exists open orders.",
    -4048: "Margin type cannot be changed if there exists position.",
    -4051: "Isolated balance insufficient.",
    -4054: "Cannot add position margin: position is 0.",
    -4055: "Amount must be positive.",
    -4059: "No need to change position side.",
    -4061: "Order's position side does not match user's setting.",
    -4116: "ClientOrderId is duplicated.",
    -4120: "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
    -4130: "An open stop or take profit order with GTE and closePosition in the direction is existing.",
    -4137: "Quantity must be zero with closePosition equals true.",
    -4138: "Reduce only must be true with closePosition equals true.",
    -4161: "Leverage reduction is not supported in Isolated Margin Mode with open positions.",
    -4164: "Order's notional must be no smaller than {} (unless you choose reduce only).",
    -4171: "No need to change Multi-Assets mode.",
    -4509: "Time in Force (TIF) GTE can only be used with open positions. Please ensure that positions are available.",
    -5000: "Path {}, Method {} is invalid",
    -5021: "Due to the order could not be filled immediately, the FOK order has been rejected. "
    "The order will not be recorded in the order history",
    -5022: "Due to the order could not be executed as maker, the Post Only order will be rejected. "
    "The order will not be recorded in the order history",
    -5026: "Exceed maximum modify order limit.",
    -5027: "No need to modify the order.",
    -5040: "Modify order is only allowed for LIMIT orders.",
    -5047: "Modify order reduceOnly mismatch.",
}

STATUSES: Final[dict[int, int]] = {-1003: 429, -2014: 401, -2015: 401, -5000: 404, -1015: 429}


class Refused(Exception):
    """A request that the exchange refuses; nothing has changed.

    >>> str(Refused(-4028, 200)), Refused(-4028, 200).status
    ('-4028: Leverage 200 is not valid', 400)
    """

    def __init__(self, code: int, *values: object, status: int | None = None, text: str | None = None) -> None:
        self.code = code
        self.text = (MESSAGES[code] if text is None else text).format(*values)
        self.status = status if status is not None else STATUSES.get(code, 400)
        super().__init__(f"{code}: {self.text}")

    def body(self) -> dict[str, object]:
        """Return the reply's JSON."""
        return {"code": self.code, "msg": self.text}
