"""Rows in the answer formats of PromptCBLUE's 16 tasks, written for the tests."""

import random

from pipeline.metrics import Row


def _rows(choices: tuple[str, ...] | None, *targets: str) -> list[Row]:
    return [Row(target, "zh", choices) for target in targets]


KINDS = ("疾病", "药物", "身体部位")
DIALOGUE_KINDS = ("症状", "药物类别", "医疗操作")
RELATIONS = ("药物治疗", "临床表现", "相关（症状）")
TERMS = ("急性咽炎", "高血压病", "2型糖尿病", "心功能不全")
STATUSES = ("已有症状疾病或者假设未来可能发生的疾病等", "未患有症状疾病", "没有回答、不知道、回答不明确")
SYMPTOM_STATUSES = ("没有患有该症状", "患有该症状", "无法根据上下文确定病人是否患有该症状")
CRITERIA = ("治疗或手术", "年龄", "体征(医生检测）", "非上述类型")
INTENTS = ("治疗方案", "就医建议", "病因分析", "非上述类型")
ACTS = ("关于症状的询问", "关于症状的回答", "给出诊断", "非上述类型")

GOLD: dict[str, list[Row]] = {
    "cmeee-v2": _rows(
        KINDS,
        "上述句子中的实体包含：\n疾病实体：哮喘，支气管炎\n药物实体：\n身体部位实体：肺",
        "上述句子中的实体包含：\n疾病实体：\n药物实体：硝苯地平\n身体部位实体：",
        "上述句子没有指定类型实体",
    ),
    "cmeie": _rows(
        RELATIONS,
        "具有药物治疗关系的头尾实体对如下：头实体为哮喘，尾实体为沙丁胺醇。头实体为哮喘，尾实体为布地奈德。\n"
        "具有临床表现关系的头尾实体对如下：",
        "具有相关（症状）关系的头尾实体对如下：头实体为偏头痛，尾实体为畏光。",
    ),
    "chip-cdn": _rows(TERMS, "急性咽炎", "高血压病，2型糖尿病", "没有对应的标准化实体"),
    "chip-cdee": _rows(
        None,
        "上述句子中的临床发现事件如下：\n主体词：疼痛；发生状态：；描述词：阵发性，剧烈；解剖部位：腹，腰\n"
        "主体词：呕吐；发生状态：否定；描述词：；解剖部位：",
        "上述句子中的临床发现事件如下：\n主体词：肿块；发生状态：不确定；描述词：；解剖部位：甲状腺",
    ),
    "chip-mdcfnpc": _rows(
        STATUSES, f"实体及其阴阳性判别如下：\n腹痛：{STATUSES[0]}\n发热：{STATUSES[1]}\n感染：{STATUSES[2]}"
    ),
    "chip-ctc": _rows(CRITERIA, *CRITERIA, "年龄"),
    "chip-sts": [*_rows(("是的", "不是"), "是的", "不是"), *_rows(("相同", "不同"), "相同", "不同", "不同")],
    "kuake-qic": _rows(INTENTS, *INTENTS, "就医建议"),
    "kuake-ir": _rows(("相关", "不相关"), "相关", "不相关", "相关"),
    "kuake-qqr": _rows(("完全一致", "后者是前者的语义子集", "语义无直接关联"), "完全一致", "语义无直接关联"),
    "kuake-qtr": _rows(("完全不匹配", "部分匹配", "完全匹配"), "部分匹配", "完全匹配", "完全不匹配"),
    "imcs-v2-ner": _rows(
        DIALOGUE_KINDS,
        "上述句子中的实体包含：\n症状实体：咳嗽，流鼻涕\n药物类别实体：益生菌\n医疗操作实体：",
        "上述句子中的实体包含：\n医疗操作实体：",
    ),
    "imcs-v2-dac": _rows(ACTS, *ACTS, "给出诊断"),
    "imcs-v2-sr": _rows(
        SYMPTOM_STATUSES,
        "当前对话中的症状及其阴阳性判断为：\n咳嗽：患有该症状\n发烧：没有患有该症状\n咳嗽：患有该症状",
        "当前对话中的症状及其阴阳性判断为：\n腹泻：无法根据上下文确定病人是否患有该症状",
    ),
    "imcs-v2-mrg": _rows(
        None,
        "上述问诊对话的诊疗报告如下：\n主诉：咳嗽三天。\n现病史：患儿受凉后咳嗽，体温38.2℃，CRP 12mg/L。\n"
        "辅助检查：\n既往史：不详。\n诊断：上呼吸道感染\n建议：多饮水，随诊。",
        "上述问诊对话的诊疗报告如下：\n主诉：腹泻\n现病史：\n辅助检查：无。\n既往史：\n诊断：消化不良。\n建议：益生菌。",
    ),
    "meddg": _rows(None, "这种情况多久了？有没有反酸？", "建议做Hp检测，先吃奥美拉唑20mg。", "好的."),
}

ALPHABET = "实体：:，,；;。.\n \t头尾为如下关系具有没主诉无|=aZ1１（)\u3000\x00\ud7ff🙂é"


def mutated(text: str, rng: random.Random) -> str:
    """``text`` after one to six small accidents: cuts, swaps, repeats, other characters, half-width marks."""
    for _ in range(rng.randint(1, 6)):
        i, j = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        text = rng.choice(
            (
                text[:i] + text[j:],
                text[:i] + text[i:j] * 2 + text[j:],
                text[:i] + "".join(rng.choices(ALPHABET, k=rng.randint(1, 5))) + text[i:],
                text[j:] + text[:i],
                text.replace("：", ":").replace("，", ","),
                "\n".join(rng.sample(text.split("\n"), text.count("\n") + 1)),
                text[:j],
            )
        )
    return text
