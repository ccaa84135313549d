# ruff: noqa: E501
"""The vocabulary of the latent factors, each word in English and Chinese. A factor's value is a position in its list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

Word = tuple[str, str]
T = TypeVar("T")

#: its colour, with the RGB value
COLOURS: list[tuple[str, str, tuple[int, int, int]]] = [
    ("red", "红色", (222, 40, 44)), ("orange", "橙色", (250, 140, 22)), ("yellow", "黄色", (250, 222, 40)),
    ("green", "绿色", (46, 180, 70)), ("cyan", "青色", (40, 210, 220)), ("blue", "蓝色", (40, 80, 225)),
    ("purple", "紫色", (150, 50, 200)), ("pink", "粉色", (255, 130, 190)), ("white", "白色", (245, 245, 245)),
]  # fmt: skip

#: in speech and texts: six topics of each category
CATEGORIES: list[tuple[Word, list[Word]]] = [
    (("cooking", "美食"), [("noodles", "面条"), ("dumplings", "饺子"), ("cake", "蛋糕"), ("soup", "煲汤"), ("barbecue", "烧烤"), ("salad", "沙拉")]),
    (("sports", "体育"), [("football", "足球"), ("basketball", "篮球"), ("swimming", "游泳"), ("running", "跑步"), ("tennis", "网球"), ("skiing", "滑雪")]),
    (("games", "游戏"), [("chess", "象棋"), ("racing game", "赛车游戏"), ("puzzle", "解谜"), ("card game", "卡牌"), ("strategy game", "策略游戏"), ("arcade", "街机")]),
    (("music", "音乐"), [("guitar", "吉他"), ("piano", "钢琴"), ("drums", "架子鼓"), ("violin", "小提琴"), ("choir", "合唱"), ("rap", "说唱")]),
    (("travel", "旅行"), [("train trip", "火车旅行"), ("hiking", "徒步"), ("camping", "露营"), ("island", "海岛游"), ("old town", "古镇"), ("road trip", "自驾")]),
    (("pets", "萌宠"), [("cat", "猫咪"), ("dog", "狗狗"), ("parrot", "鹦鹉"), ("rabbit", "兔子"), ("goldfish", "金鱼"), ("hamster", "仓鼠")]),
    (("science", "科普"), [("planets", "行星"), ("dinosaurs", "恐龙"), ("magnets", "磁铁"), ("volcano", "火山"), ("robots", "机器人"), ("weather", "天气")]),
    (("fashion", "时尚"), [("makeup", "化妆"), ("hairstyle", "发型"), ("sneakers", "球鞋"), ("coats", "大衣"), ("jewellery", "首饰"), ("perfume", "香水")]),
    (("cars", "汽车"), [("electric car", "电动车"), ("motorbike", "摩托车"), ("truck", "卡车"), ("car repair", "修车"), ("parking", "停车"), ("used cars", "二手车")]),
    (("home", "家居"), [("gardening", "园艺"), ("furniture", "家具"), ("cleaning", "打扫"), ("painting walls", "刷墙"), ("storage", "收纳"), ("lighting", "灯具")]),
    (("learning", "教育"), [("mathematics", "数学"), ("handwriting", "书法"), ("English lessons", "英语课"), ("history", "历史"), ("drawing", "画画"), ("exams", "考试")]),
    (("health", "健康"), [("yoga", "瑜伽"), ("sleep", "睡眠"), ("back pain", "腰痛"), ("diet", "减肥"), ("eyesight", "护眼"), ("tea", "养生茶")]),
]  # fmt: skip

TOPICS_EACH = 6

#: uninformative tags
NOISE_TAGS: list[Word] = [
    ("video", "视频"), ("daily", "日常"), ("recommended", "推荐"), ("hot", "热门"), ("fun", "有趣"), ("original", "原创"),
    ("must see", "必看"), ("vlog", "记录"), ("2021", "2021"), ("sharing", "分享"), ("new", "新人"), ("life", "生活"),
]  # fmt: skip

#: uninformative openings of titles
BAIT: list[Word] = [
    ("You won't believe this", "太意外了"), ("Watch to the end", "一定要看到最后"), ("Wow", "哇"), ("Finally", "终于来了"),
    ("Nobody tells you this", "没人告诉你"), ("Number one", "全网第一"), ("OMG", "震惊"), ("Part 2", "第二集"),
]  # fmt: skip
EMOJI = "😂🔥👍❤😱🎉👀💯✨🤔"

_ONSETS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "sh", "ch"]
_VOWELS = ["a", "e", "i", "o", "u", "ai"]
_HAN_FIRST = "金银龙凤天海云山星月华宝福安康乐"
_HAN_LAST = "达美奇丽特佳源泰鑫宏盛洋诚利悦程"


def _entity(index: int) -> Word:
    a, b = index % len(_ONSETS), index // len(_ONSETS)
    vowel, other = _VOWELS[b % len(_VOWELS)], _VOWELS[(a + b) % len(_VOWELS)]
    english = f"{_ONSETS[a]}{vowel}{_ONSETS[(3 * a + 5 * b + 1) % len(_ONSETS)]}{other}{'nlx'[b % 3]}{'ao'[b // 12]}"
    han = _HAN_FIRST[a] + _HAN_LAST[b % 16] + ("" if b < 16 else "司")
    return english.capitalize(), han


#: made-up names of brands, teams and places, for example ``("Bamika", "金达")``; all differ
ENTITIES: list[Word] = [_entity(index) for index in range(320)]

#: factor -> its words
WORDS: dict[str, list[Word]] = {
    "place": [
        ("harbour", "港口"), ("forest", "森林"), ("desert", "沙漠"), ("city", "城市夜景"), ("kitchen", "厨房"),
        ("stadium", "体育场"), ("classroom", "教室"), ("snowfield", "雪地"), ("beach", "海滩"), ("market", "市场"),
        ("stage", "舞台"), ("outer space", "太空"), ("sea floor", "海底"), ("farm", "农场"), ("tunnel", "隧道"),
        ("temple", "寺庙"),
    ],  # drawn as the background
    "shape": [
        ("circle", "圆形"), ("square", "方块"), ("triangle", "三角形"), ("star", "星星"), ("heart", "爱心"),
        ("diamond", "菱形"), ("cross", "十字"), ("ring", "圆环"), ("moon", "月牙"), ("arrow", "箭头"),
    ],  # of the moving object
    "colour": [(english, chinese) for english, chinese, _ in COLOURS],  # of the object
    "action": [
        ("jumps", "跳跃"), ("circles", "转圈"), ("slides", "滑行"), ("spins", "旋转"), ("grows and shrinks", "变大变小"),
        ("zigzags", "折线前进"), ("trembles", "抖动"), ("swings", "摇摆"), ("falls", "落下"),
    ],  # what the object does
    "topic": [topic for _, topics in CATEGORIES for topic in topics],  # of speech and texts
    "entity": ENTITIES,
    "angle": [
        ("for beginners", "新手入门"), ("mistakes", "常见错误"), ("on a budget", "省钱攻略"), ("in five minutes", "五分钟学会"),
        ("world record", "世界纪录"), ("review", "测评"), ("behind the scenes", "幕后花絮"), ("old versus new", "新旧对比"),
        ("for children", "儿童版"), ("live", "现场直播"),
    ],  # the aspect of the topic, in speech and texts
    "mood": [
        ("happy", "欢快"), ("calm", "宁静"), ("tense", "紧张"), ("sad", "悲伤"), ("epic", "史诗"), ("playful", "俏皮"),
    ],  # of the music
    "presenter": [
        ("Anna", "小安"), ("Boris", "老博"), ("Chen", "陈姐"), ("Dora", "朵朵"), ("Emil", "阿米"), ("Fatima", "法蒂"),
        ("Goran", "老高"), ("Hana", "花花"), ("Ivan", "伊万"), ("Jing", "静静"), ("Kemal", "凯叔"), ("Lena", "莲娜"),
    ],  # who speaks: the voice, the face, and the name
}  # fmt: skip
#: in the order of a :data:`Word`
LANGUAGES = ("en", "zh")


def words(factors: Mapping[str, int], which: int) -> dict[str, str]:
    """Factor -> its word in the language at this position of :data:`LANGUAGES`."""
    return {name: WORDS[name][position][which] for name, position in factors.items()}


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """A random element."""
    return choices[int(rng.integers(len(choices)))]
