"""What the codes of the journal are called, in Chinese and English."""

_WORDS = {
    # accounts
    "wechat_clearing": ("微信在途", "WeChat clearing"),
    "bank": ("银行存款", "Bank"),
    "cash_on_hand": ("库存现金", "Cash on hand"),
    "pos_clearing": ("POS 在途", "POS clearing"),
    "received": ("已收款", "Received"),
    "prepaid": ("预存款", "Prepaid"),
    "deposit": ("押金", "Deposit"),
    "surplus": ("溢收款", "Surplus"),
    "suspense": ("待查款", "Suspense"),
    "commission": ("手续费", "Commission"),
    "refund_pending": ("退款在途", "Refund pending"),
    "cash_variance": ("长短款", "Cash variance"),
    # channels
    "wechat_jsapi": ("微信小程序支付", "WeChat mini-program"),
    "wechat_native": ("微信扫码支付", "WeChat code"),
    "cash": ("现金", "Cash"),
    "pos": ("POS 刷卡", "POS"),
    "bank_transfer": ("银行转账", "Bank transfer"),
    # entries that are not named like an account
    "payment": ("收款", "Payment"),
    "refund_approved": ("退款批准", "Refund approved"),
    "refunded": ("退款到账", "Refunded"),
    "refund_cancelled": ("退款取消", "Refund cancelled"),
    "reversal": ("红冲", "Reversal"),
    "adjustment": ("调整", "Adjustment"),
    # columns of the reports
    "legal_entity_id": ("收款主体", "Legal entity"),
    "community_id": ("小区", "Community"),
    "building_id": ("楼栋", "Building"),
    "room_id": ("房屋", "Room"),
    "customer_id": ("客户", "Customer"),
    "fee_item_id": ("收费项目", "Fee item"),
    "staff_id": ("收费员", "Clerk"),
    "account_id": ("账户", "Account"),
    "holder_id": ("户主", "Holder"),
    "account_kind": ("科目", "Account kind"),
    "channel": ("渠道", "Channel"),
    "month": ("月份", "Month"),
    "day": ("日期", "Day"),
    "billed_fen": ("应收", "Billed"),
    "received_fen": ("实收", "Received"),
    "advance_fen": ("预收", "Received in advance"),
    "owed_fen": ("欠费", "Owed"),
    "rate_bp": ("收缴率", "Collection rate"),
    "not_due_fen": ("未到期", "Not due"),
    "days_0_30_fen": ("逾期30天以内", "Up to 30 days"),
    "days_31_90_fen": ("逾期31-90天", "31-90 days"),
    "days_91_180_fen": ("逾期91-180天", "91-180 days"),
    "days_181_365_fen": ("逾期181-365天", "181-365 days"),
    "over_365_fen": ("逾期365天以上", "Over 365 days"),
    "refunded_fen": ("退款", "Refunded"),
    "income_fen": ("净收入", "Income"),
    "opening_fen": ("期初余额", "Opening"),
    "debit_fen": ("借方", "Debit"),
    "credit_fen": ("贷方", "Credit"),
    "closing_fen": ("期末余额", "Closing"),
    "balance_fen": ("余额", "Balance"),
    "amount_fen": ("金额", "Amount"),
    "total": ("合计", "Total"),
    "none": ("（无）", "(none)"),
}


def word(code: str, language: str = "zh") -> str:
    """What people call it; the code itself where nobody named it yet."""
    chinese, english = _WORDS.get(code, (code, code))
    return english if language == "en" else chinese
