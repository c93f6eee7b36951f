"""The words that C7 looks for: no word of two emotions, found in running text, and how many texts they miss.

The sentences were written before the words were, as people write, and are none of the lexicon's making: of each three,
one names the emotion, the others show it. A fifth is in traditional characters.
"""

from __future__ import annotations

import pytest

from lens_emotion.errors import StimulusError
from lens_emotion.stimuli.emotions import EMOTIONS, main_script
from lens_emotion.stimuli.lexicon import LANGUAGES, Lexicon, lexicon
from lens_emotion.stimuli.library import load_stimuli

SENTENCES = {
    "happy": (
        "收到录取通知书，她高兴得跳了起来。", "今天的聚会真让人开心，大家笑个不停。",
        "他哼着小曲走回家，嘴角一直往上扬。",
    ),
    "sad": (
        "外婆走了以後，他難過了好幾個月。", "看着空荡荡的房间，她的眼泪止不住地往下掉。",
        "他把旧照片一张张收好，心里很不是滋味。",
    ),
    "calm": (
        "湖面沒有一絲風，她的心也慢慢平靜下來。", "老人不慌不忙地泡了一壶茶，慢慢地喝。",
        "深呼吸几次之后，他觉得整个人都放松了。",
    ),
    "desperate": (
        "门怎么也打不开，水越涨越高，他快要绝望了。", "求求你，再给我一次机会，我真的走投无路了。",
        "她翻遍了所有口袋，连一分钱也找不到，不知道还能找谁。",
    ),
    "afraid": (
        "聽見樓下的腳步聲，孩子害怕地躲進被子裡。", "那条黑巷子让她心里发毛，腿都软了。",
        "他吓得脸色发白，一句话也说不出来。",
    ),
    "angry": ("听到这个谎话，他气得把杯子摔在地上。", "爸爸非常生气，拍着桌子大声骂人。", "她的怒火再也压不住了。"),
    "proud": (
        "看到女儿站在领奖台上，他感到无比骄傲。", "這座橋是我們親手建的，說起來真是自豪。",
        "他挺起胸膛，逢人就讲儿子考了第一名。",
    ),
    "guilty": (
        "打碎了媽媽的花瓶，他心裡很內疚。", "都是我的错，我对不起你们。",
        "自从那次说谎以后，她一直不敢看朋友的眼睛，良心难安。",
    ),
    "nervous": (
        "上台之前，他紧张得手心直冒汗。", "面试官一开口，她就结结巴巴，脸也红了。",
        "他在门口走来走去，不停地整理领带。",
    ),
    "hopeful": (
        "雖然路還很長，但她對明天充滿希望。", "他相信春天来了，一切都会好起来的。",
        "医生的话让全家人看到了一线曙光。",
    ),
    "brooding": (
        "他整夜坐在窗前，反复想着那句话，闷闷不乐。", "她把心事藏在心里，一个人生着闷气。",
        "那件事他始终放不下，脸色阴沉地抽着烟。",
    ),
    "gloomy": (
        "连着下了一星期的雨，他的心情也十分低落。", "屋里死气沉沉，谁也提不起精神。",
        "冬天的下午灰蒙蒙的，她觉得一切都很无聊沉闷。",
    ),
    "reflective": (
        "夜深人静，他回想起这些年走过的路。", "她合上书，陷入了沉思。", "坐在海边，他不由得思考人生的意义。",
    ),
    "enthusiastic": (
        "孩子们兴奋地围着新老师问个不停。", "他一谈起这个项目就两眼放光，干劲十足。", "大家踊跃报名，热情特别高。",
    ),
    "hostile": (
        "他恶狠狠地瞪着那个陌生人，好像要动手。", "两家人一见面就针锋相对，充满敌意。",
        "她冷冷地说：你给我滚出去，别再让我看见你。",
    ),
    "loving": ("妈妈轻轻抱着宝宝，亲了亲他的小脸。", "他深深地愛著她，願意陪她一輩子。", "奶奶温柔地替我盖好被子。"),
    "exasperated": (
        "又停电了，真是受不了，烦死人了！", "說了十遍他還是不聽，我實在沒辦法了。",
        "她无奈地叹了口气，把表格第五次撕掉。",
    ),
    "blissful": (
        "躺在暖暖的阳光里，她觉得自己是世界上最幸福的人。", "他们沉醉在音乐中，仿佛飘在云端。",
        "这一刻太美好了，他希望时间永远停住。",
    ),
    "anxious": (
        "儿子还没回家，母亲焦急地看着钟。", "他總是擔心明天會出事，整晚睡不著。",
        "体检结果迟迟不来，她心里七上八下的。",
    ),
    "grateful": (
        "謝謝你在我最困難的時候幫了我。", "这份恩情，他一辈子都忘不了。", "她含着泪向医生深深鞠了一躬，感激不尽。",
    ),
}  # fmt: skip

NEUTRAL = (
    "火车九点从第三站台开出。", "他把书放在桌子上，打开了窗户。", "超市今天的苹果三块钱一斤。",
    "会议在二楼的房间里举行。",
    "她每天坐公交车上班。", "这本词典一共有八百页。", "请在表格上填写姓名和地址。", "河边有三棵树和一条长椅。",
    "昨天下午他去邮局寄了一个包裹。", "图书馆的门口停着一辆自行车。", "他恐怕要晚到十分钟。", "音乐课改到星期四。",
    "安全出口在走廊尽头。", "这只猫很可爱，是白色的。", "老师在黑板上写了一道数学题。", "他打算周末去爬山。",
    "感冒的人请戴口罩。", "气温明天会降到五度。", "這家餐廳的湯很有名。", "他爱好下棋和钓鱼。",
)  # fmt: skip
LABELLED = [(text, e) for e, texts in SENTENCES.items() for text in texts] + [(t, "neutral") for t in NEUTRAL]


def test_every_emotion_has_words_in_every_language_and_no_word_is_of_two():
    assert lexicon().emotions == EMOTIONS
    for language, least in zip(LANGUAGES, (3, 8, 3, 2, 3, 1), strict=True):
        words = lexicon(language).words
        assert {e for e in EMOTIONS if len(words[e]) < least} == set(), language
    full = lexicon()
    told = [w for words in full.words.values() for w in words]
    assert sorted(told) == sorted(set(told)) and not set(told) & set(full.shared)
    with pytest.raises(StimulusError, match="no words in fr; there are en, zh"):
        lexicon("fr")


def test_the_recall_that_verdicts_use_is_the_one_measured():
    known = lexicon("zh", "hant")
    assert known.recall_on(LABELLED) == known.recall["Han"]
    assert known.recall["Han"].found / known.recall["Han"].n > 0.8 and known.recall["Han"].alarms == 0
    table = known.measured(LABELLED)
    by_emotion = {e: int(table.loc[e, e]) for e in EMOTIONS}
    assert min(by_emotion.values()) >= 2  # of 3
    assert table.loc["brooding", "gloomy"] == table.loc["blissful", "hopeful"] == 1
    assert table.loc["neutral", "none"] == len(NEUTRAL)
    assert lexicon().recall_on(LABELLED) == known.recall["Han"]  # Japanese words find nothing in Chinese


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("他很高兴。", {"happy"}), ("他不高兴。", set()), ("他不太高兴。", set()), ("她没有希望了", set()),
        ("別害怕", set()),
        ("他没有说话，心里很害怕", {"afraid"}), ("毫无希望", set()), ("欣喜若狂", {"blissful"}), ("忐忑不安", set()),
        ("不耐烦的人", {"exasperated"}), ("不慌不忙", {"calm"}), ("無憂無慮", {"blissful"}), ("闷闷不乐", {"brooding"}),
        ("音乐会和快餐", set()), ("他既害怕又生氣", {"afraid", "angry"}), ("とても嬉しかった", {"happy"}),
        ("나는 슬펐다", {"sad"}), ("Она так благодарна", {"grateful"}), ("She is HAPPY", {"happy"}), ("unhappy", set()),
        ("sadistic", set()), ("", set()),
    ],
)  # fmt: skip
def test_words_are_found_whole_longest_and_not_behind_a_negation(text, named):
    assert lexicon().named_in(text) == named


def test_english_texts_hold_no_foreign_words():
    foreign = lexicon().outside("Latin")
    assert all(main_script(w) != "Latin" for words in foreign.words.values() for w in words)
    assert not any(foreign.named_in(item.text) for item in load_stimuli("passages").items)
    assert min(map(len, lexicon().outside("Han").words.values())) >= 4  # for Chinese prompts English is foreign


def test_words_of_ones_own_that_two_emotions_share_count_for_neither():
    mine = Lexicon({"happy": ("joy", "tears"), "sad": ("Tears", "gloom*")})
    assert mine.named_in("tears") == frozenset() and mine.named_in("Gloomily, joy") == {"happy", "sad"}
