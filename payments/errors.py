"""What the island refuses, each named as the fact that it is."""

from kit.errors import InvalidInput, Refusal


class BillAlreadyPaid(Refusal):
    status = 409
    zh = "账单“{bill_title}”已经缴清，无需重复支付。"
    en = "The bill is already paid."


class BillVoided(Refusal):
    status = 409
    zh = "账单“{bill_title}”已作废或冲销，无需支付。"
    en = "The bill has been voided or credited."


class BillNotPayableOnline(Refusal):
    status = 409
    zh = "账单“{bill_title}”暂不支持线上支付，请到物业服务中心缴费。"
    en = "The bill cannot be paid online."


class BillsNeedSeparatePayments(Refusal):
    """``groups`` lists the bill ids that can be paid together."""

    status = 409
    zh = "所选账单要付给不同的收款方或属于不同的人，请分{count}次支付。"
    en = "The chosen bills must be paid separately, in {count} payments."


class BillExists(Refusal):
    status = 409
    zh = "这笔费用已经出过账单。"
    en = "A live bill for this subject and purpose exists."


class BillHasPayments(Refusal):
    status = 409
    zh = "账单已有缴费，不能作废。"
    en = "Money was paid on this bill; it cannot be voided."


class LinesDoNotAddUp(Refusal):
    status = 422
    zh = "账单明细合计与账单金额不一致。"
    en = "The lines do not add up to the bill's amount."


class PaymentInProgress(Refusal):
    """Another person has opened a payment for one of the bills less than a minute ago."""

    status = 409
    zh = "家人或其他人正在支付这笔账单，请稍后再试。"
    en = "Somebody else is paying this bill right now; try again shortly."


class PaymentNotOpen(Refusal):
    status = 409
    zh = "这笔支付已经结束。"
    en = "The payment is no longer open."


class AmountTooLarge(Refusal):
    status = 409
    zh = "合计金额超出单笔支付上限，请分次支付。"
    en = "The total exceeds what one payment may carry."


class SurplusDecided(Refusal):
    """Somebody was quicker; ``fate`` says what was decided."""

    status = 409
    zh = "这笔溢收款已经处理过了，不能重复处理。"
    en = "What becomes of this surplus has been decided already."


class NoSurplus(Refusal):
    """The case is not about money that found no bill."""

    status = 409
    zh = "这笔差错不是溢收款，不能退回或留存。"
    en = "This case is not about a surplus."


class BillOfAnother(Refusal):
    """A surplus pays bills of its own debtor and legal entity only."""

    status = 409
    zh = "账单“{bill_title}”属于其他业主或其他收款主体，不能用这笔溢收款支付。"
    en = "The bill is owed by another customer or to another legal entity than the surplus."


class BillIsNoCharge(Refusal):
    """What the debtor has here already pays charges only: not a top-up of itself, nor another deposit."""

    status = 409
    zh = "账单“{bill_title}”是预存款或押金，不能用已有余额支付。"
    en = "The bill is a top-up or a deposit; it cannot be paid with money that is held here."


class BillNotForPrepaid(Refusal):
    """It was agreed that the balance pays other fee items, or the bill is no charge."""

    status = 409
    zh = "按约定，预存款不能用于支付账单“{bill_title}”。"
    en = "It was agreed that the prepaid balance does not pay this bill."


class NothingOwed(Refusal):
    """There is no bill that the balance may pay."""

    status = 409
    zh = "没有可以用预存款支付的账单。"
    en = "Nothing is owed that the prepaid balance may pay."


class LessIsOwed(Refusal):
    """``owed_fen`` is what the bill can still take."""

    status = 409
    zh = "账单“{bill_title}”的待缴金额已变化，请刷新后重试。"
    en = "Less is owed on the bill than was chosen to be paid."


class NotEnoughHeld(Refusal):
    """What is held for the debtor does not reach; ``held_fen`` is what there is."""

    status = 409
    zh = "余额不足：现有{yuan}元。"
    en = "Not enough is held: CNY {yuan}."


class NotThroughWechat(Refusal):
    """The money did not come through WeChat, so WeChat cannot give it back."""

    status = 409
    zh = "这笔钱不是通过微信支付收的，不能原路退回微信，请选择转账或现金退款。"
    en = "The money did not come through WeChat; refund it by bank transfer or in cash."


class RefundJustSent(Refusal):
    """The refund was sent to WeChat a moment ago: whether WeChat knows it cannot be told yet."""

    status = 409
    zh = "退款刚刚提交给微信，结果还不确定，请几分钟后再试。"
    en = "The refund was just sent to WeChat; try again in a few minutes."


class RefundAtWechat(Refusal):
    """WeChat has the refund: only WeChat's word ends it."""

    status = 409
    zh = "微信已经受理这笔退款，不能取消或重发；如退款异常，请在微信商户平台处理，或变更为转账、现金退款。"
    en = (
        "WeChat has accepted this refund; an abnormal one is handled at WeChat's merchant platform, or changed to a "
        "bank transfer or cash."
    )


class PaymentNotPaid(Refusal):
    """No money came with it, or it lies in suspense: there is nothing to give back."""

    status = 409
    zh = "这笔支付没有收到款，不能退款。"
    en = "No money came with this payment; there is nothing to refund."


class RefundTooLarge(Refusal):
    """``left_fen`` is what can still be given back of what was chosen."""

    status = 409
    zh = "可退金额不足：这笔支付已退或正在退的金额不能再退。"
    en = "More than is left of this payment, or nothing is left."


class RefundKindsDiffer(Refusal):
    status = 422
    zh = "物业费、预存款和押金请分别申请退款。"
    en = "Charges, prepaid balance and deposits are refunded separately."


class DepositReturnNotAsked(Refusal):
    """Until its return is asked for, something may still be deducted from a deposit."""

    status = 409
    zh = "请先为这笔押金办理退还申请，再退款。"
    en = "Ask for the return of the deposit first."


class RefundNeedsSecondPerson(Refusal):
    """``limit_fen`` is how much one person may ask for and approve alone, of one payment."""

    status = 409
    zh = "超过{limit_yuan}元的退款须由申请人以外的人审批。"
    en = "A refund above CNY {limit_yuan} is approved by another person than the one who asked."


class RefundNotByHand(Refusal):
    """Only WeChat's word says that WeChat gave something back."""

    status = 409
    zh = "这笔退款由微信原路退回，不能登记为人工付款；如需转账或现金，请先变更退款方式。"
    en = "WeChat gives this refund back; change its method before paying it out by hand."


class BankSerialNeeded(Refusal):
    status = 422
    zh = "请填写银行转账的流水号。"
    en = "A transfer needs the bank's serial number."


class BankSerialUsed(Refusal):
    status = 409
    zh = "这个银行流水号已经登记过另一笔退款。"
    en = "This bank serial number was recorded for another refund."


class RefundAskedAlready(Refusal):
    status = 409
    zh = "这笔支付的退款申请已经提交，请等待物业审核。"
    en = "A refund of this payment was asked for already; please wait for the decision."


class NoForeignRefund(Refusal):
    status = 409
    zh = "这笔差错不是在微信商户平台手工发起的退款。"
    en = "This case is not about a refund made at WeChat's own site."


class ForeignRefundRecorded(Refusal):
    status = 409
    zh = "这笔退款已经入账，不能重复登记。"
    en = "This refund was recorded already."


class RefundNotConfirmed(Refusal):
    """WeChat, asked now, does not say that this refund of this order succeeded."""

    status = 409
    zh = "微信没有确认这笔退款已成功，暂不能入账。"
    en = "WeChat does not confirm that this refund succeeded."


class ForeignRefundUnmatched(Refusal):
    """``amount_fen`` is what WeChat gave back: what is chosen must add up to it."""

    status = 422
    zh = "所选金额与微信实际退款金额不一致。"
    en = "What was chosen does not add up to what WeChat gave back."


class CashNotThere(Refusal):
    """Less cash of this legal entity is there than is to be taken out."""

    status = 409
    zh = "该收款主体的现金不足，请核对金额。"
    en = "There is less cash of this legal entity than is to be taken out."


class WechatUnavailable(Refusal):
    """WeChat gave no trustworthy answer; the payment stays open, a repeat of the request goes on with it."""

    status = 503
    zh = "微信支付暂时没有回应，请稍后重试，不会重复扣款。"
    en = "WeChat Pay did not answer; try again shortly. You will not be charged twice."
    retry_after_s = 3


class WechatRefused(Refusal):
    """WeChat refused to open the order; nothing can be paid with it."""

    status = 502
    zh = "微信支付未能受理，请联系物业服务中心。（{wechat_code}）"
    en = "WeChat Pay refused the order ({wechat_code})."


class NotificationUnverified(Refusal):
    """The signature, serial, time or encryption of a callback does not hold: nobody's word, nothing is kept of it."""

    status = 401
    zh = "签名验证失败。"
    en = "The notification could not be verified."


class NotificationMalformed(Refusal):
    """Verified, but not a notice that we understand."""

    status = 400
    zh = "通知内容无法识别。"
    en = "The notification is malformed."


class UnknownOrder(Refusal):
    """A verified notice about an order that is not here (yet): WeChat shall say it again."""

    status = 503
    zh = "订单尚未找到，请稍后重试。"
    en = "No such order yet; send it again."
    retry_after_s = 15


class DifferenceNotConfirmed(Refusal):
    """WeChat, asked for the number, does not say what its bill says, or the money is in the books already."""

    status = 409
    zh = "微信没有确认这笔款项，或已入账，不能挂账。"
    en = "WeChat does not confirm this money, or it is in the books already."


class SecondPersonNeeded(Refusal):
    """Who asks for an adjustment cannot sign it, nor who asks for a reversal."""

    status = 409
    zh = "需要另一个人复核，申请人不能自己复核。"
    en = "This is signed by a second person, not by the one who asked for it."


class AccountsNotAdjustable(InvalidInput):
    """Only money between WeChat, the bank, commission and suspense is adjusted."""

    zh = "只能在微信在途、银行存款、手续费、待查款之间调整，且两个科目不能相同。"
    en = "Adjustments move money between wechat_clearing, bank, commission and suspense, between two different ones."


class MonthNotOver(Refusal):
    """A month is closed when it is over in Beijing."""

    zh = "这个月还没有结束，不能结账。"
    en = "This month is not over yet and cannot be closed."


class MonthClosed(Refusal):
    """This month, or a later one of the legal entity, was closed before. It is never opened again."""

    zh = "这个月已经结账。更正请在未结账的月份红冲。"
    en = "This month is closed already. Correct it by a reversal in the open one."


class EntryNotReversible(Refusal):
    """The entry was made by a payment, a refund or another machine of money, which also corrects it."""

    zh = "这笔分录由收款、退款等业务自动生成，请通过退款等业务更正，不能直接红冲。"
    en = "This entry was made by a payment, a refund or the like; correct it there, not by a reversal."
